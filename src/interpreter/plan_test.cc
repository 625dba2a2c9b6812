#include "interpreter/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "interpreter/test_model.h"

namespace tandem::interpreter {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

Plan MakePlan(const TestModel& model) {
  auto plan = Compile(model.Build(), {});
  if (!plan.ok()) throw std::runtime_error(plan.status().ToString());
  return std::move(plan).value();
}

TEST(Plan, FreesEachValueAfterItsLastUse) {
  TestModel model;
  model.Input("x", {2}).Output("y");
  model.Node("Relu", {"x"}, {"a"});
  model.Node("Exp", {"a"}, {"b"});
  model.Node("Add", {"a", "b"}, {"y"});
  const Plan plan = MakePlan(model);
  ASSERT_THAT(plan.steps, SizeIs(3));
  const int a = plan.steps[0].outputs[0];
  const int b = plan.steps[1].outputs[0];
  EXPECT_THAT(plan.steps[0].free, ElementsAre(plan.input_slots[0]));
  EXPECT_THAT(plan.steps[1].free, IsEmpty());
  EXPECT_THAT(plan.steps[2].free, ElementsAre(a, b));
}

TEST(Plan, FoldsWhatDependsOnConstantsAlone) {
  TestModel model;
  model.Input("x", {2, 3}).Output("y").Ints("two", {1}, {2}).Ints("three", {1}, {3});
  model.Node("Mul", {"two", "three"}, {"six"});
  model.Node("Reshape", {"x", "six"}, {"y"});
  const Plan plan = MakePlan(model);
  ASSERT_THAT(plan.steps, SizeIs(1));
  ASSERT_THAT(plan.constants, SizeIs(1)) << "only what a step still reads";
  EXPECT_EQ(plan.constants[0].value.item<int64_t>(), 6);
}

TEST(Plan, NeverFoldsWeights) {
  TestModel model;
  model.Input("x", {2}).Output("y").Floats("w", {2}, {1, 2});
  model.Node("Exp", {"w"}, {"e"});
  model.Node("Mul", {"x", "e"}, {"y"});
  EXPECT_THAT(MakePlan(model).steps, SizeIs(2));
}

TEST(Plan, LeavesOutWhatNoOutputNeeds) {
  TestModel model;
  model.Input("x", {2}).Output("y");
  model.Node("Relu", {"x"}, {"y"});
  model.Node("NonZero", {"x"}, {"unread"});
  EXPECT_THAT(MakePlan(model).steps, SizeIs(1));
}

}  // namespace
}  // namespace tandem::interpreter
