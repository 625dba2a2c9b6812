#include <ATen/ops/addmm.h>
#include <c10/util/Exception.h>

#include "interpreter/operators.h"

namespace tandem::interpreter {
namespace {

// Integer matrices take integer factors.
at::Scalar Factor(double value, const at::Tensor& matrix) {
  if (at::isFloatingType(matrix.scalar_type())) return value;
  TORCH_CHECK(value == static_cast<double>(static_cast<int64_t>(value)), "factor ", value, " for integers");
  return static_cast<int64_t>(value);
}

Kernel MakeGemm(Node& node) {
  const double alpha = node.Float("alpha", 1);
  const double beta = node.Float("beta", 1);
  const bool trans_a = node.Int("transA", 0) != 0;
  const bool trans_b = node.Int("transB", 0) != 0;
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    TORCH_CHECK(in[0].dim() == 2 && in[1].dim() == 2, "takes matrices, got ", in[0].sizes(), " and ", in[1].sizes());
    const at::Tensor a = trans_a ? in[0].t() : in[0];
    const at::Tensor b = trans_b ? in[1].t() : in[1];
    if (in.Has(2)) return {at::addmm(in[2], a, b, Factor(beta, a), Factor(alpha, a))};
    const at::Tensor product = a.mm(b);
    return {alpha == 1 ? product : product.mul(Factor(alpha, a))};
  };
}

Kernel MakeMatMul(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> { return {in[0].matmul(in[1])}; };
}

constexpr Operator kOperators[] = {{"Gemm", 2, 3, 1, MakeGemm}, {"MatMul", 2, 2, 1, MakeMatMul}};

}  // namespace

std::span<const Operator> MatrixOperators() { return kOperators; }

}  // namespace tandem::interpreter
