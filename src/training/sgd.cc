#include <ATen/Dispatch.h>

#include "training/optimizer.h"

namespace tandem::training {
namespace {

class Sgd : public Optimizer {
 public:
  Sgd(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights)
      : Optimizer(std::move(weights)), spec_(spec), velocity_(ZerosLikeWeights()) {}

  void Begin(int64_t, double lr) override { lr_ = lr; }

  void Update(size_t index, const at::Tensor& gradient, int64_t begin, int64_t end) override {
    AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "Sgd::Update", [&] {
      UpdateRange(weights_[index].data_ptr<scalar_t>() + begin, velocity_[index].data_ptr<scalar_t>() + begin,
                  gradient.const_data_ptr<scalar_t>() + begin, end - begin);
    });
  }

  std::vector<std::pair<std::string, std::vector<at::Tensor>>> State() const override {
    return {{"momentum", velocity_}};
  }

 private:
  // PyTorch's first step sets v = g; with v = 0 before it, momentum * v + g is the same.
  template <typename T>
  void UpdateRange(T* __restrict w, T* __restrict v, const T* __restrict g, int64_t n) const {
    const T lr = static_cast<T>(lr_), momentum = static_cast<T>(spec_.momentum),
            decay = static_cast<T>(spec_.weight_decay);
    // direction = g + momentum * v (Nesterov), or v
    const T own = spec_.nesterov ? T{1} : T{0}, kept = spec_.nesterov ? momentum : T{1};
    for (int64_t i = 0; i < n; ++i) {
      T d = g[i] + decay * w[i];
      v[i] = momentum * v[i] + d;
      w[i] -= lr * (own * d + kept * v[i]);
    }
  }

  const spec::OptimizerSpec spec_;
  const std::vector<at::Tensor> velocity_;
  double lr_ = 0;
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights) {
  return std::make_unique<Sgd>(spec, std::move(weights));
}

}  // namespace tandem::training
