#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include "interpreter/operators.h"

namespace tandem::interpreter {
namespace {

using Tensor = at::Tensor;

template <typename Function>
Kernel Binary(Function function) {
  return [function](const Inputs& in, const RunState&) -> std::vector<Tensor> { return {function(in[0], in[1])}; };
}

template <typename Function>
Kernel Fold(Function function) {
  return [function](const Inputs& in, const RunState&) -> std::vector<Tensor> {
    Tensor result = in[0];
    for (size_t i = 1; i < in.size(); ++i) result = function(result, in[i]);
    return {result};
  };
}

// Integers are truncated. The smallest integer by -1 would be a trap of the CPU, so that divisor is a negation.
Tensor Divide(const Tensor& a, const Tensor& b) {
  if (!at::isIntegralType(a.scalar_type(), /*includeBool=*/true)) return a.div(b);
  if (!at::isSignedType(a.scalar_type())) return a.div(b, "trunc");
  const Tensor minus_one = b.eq(-1);
  return at::where(minus_one, a.neg(), a.div(b.masked_fill(minus_one, 1), "trunc"));
}

// fmod = 1 keeps the dividend's sign, 0 takes the divisor's. Everything is divisible by -1, which is another CPU trap.
Kernel MakeMod(Node& node) {
  const bool truncates = node.Int("fmod", 0) != 0;
  return Binary([truncates](const Tensor& a, const Tensor& b) {
    const bool traps = at::isIntegralType(a.scalar_type(), false) && at::isSignedType(a.scalar_type());
    const Tensor divisor = traps ? b.masked_fill(b.eq(-1), 1) : b;
    return truncates ? a.fmod(divisor) : a.remainder(divisor);
  });
}

// A constant exponent of one element as a number: LibTorch then has the shorter ways for squares and roots.
Tensor Power(const Tensor& base, const Tensor& exponent) {
  const bool is_number = exponent.numel() == 1 && exponent.dim() <= base.dim() && !exponent.requires_grad() &&
                         at::isFloatingType(base.scalar_type());
  if (is_number) return base.pow(exponent.item<double>());
  return base.pow(exponent).to(base.scalar_type());
}

Kernel MakeWhere(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<Tensor> { return {at::where(in[0], in[1], in[2])}; };
}

constexpr Operator kOperators[] = {
    {"Add", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.add(b); }); }},
    {"And", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.logical_and(b); }); }},
    {"Div", 2, 2, 1, [](Node&) { return Binary(Divide); }},
    {"Equal", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.eq(b); }); }},
    {"Greater", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.gt(b); }); }},
    {"GreaterOrEqual", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.ge(b); }); }},
    {"Less", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.lt(b); }); }},
    {"LessOrEqual", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.le(b); }); }},
    {"Max", 1, kAnyNumber, 1,
     [](Node&) { return Fold([](const Tensor& a, const Tensor& b) { return a.maximum(b); }); }},
    {"Min", 1, kAnyNumber, 1,
     [](Node&) { return Fold([](const Tensor& a, const Tensor& b) { return a.minimum(b); }); }},
    {"Mod", 2, 2, 1, MakeMod},
    {"Mul", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.mul(b); }); }},
    {"Or", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.logical_or(b); }); }},
    {"Pow", 2, 2, 1, [](Node&) { return Binary(Power); }},
    {"Sub", 2, 2, 1, [](Node&) { return Binary([](const Tensor& a, const Tensor& b) { return a.sub(b); }); }},
    {"Sum", 1, kAnyNumber, 1, [](Node&) { return Fold([](const Tensor& a, const Tensor& b) { return a.add(b); }); }},
    {"Where", 3, 3, 1, MakeWhere},
};

}  // namespace

std::span<const Operator> ArithmeticOperators() { return kOperators; }

}  // namespace tandem::interpreter
