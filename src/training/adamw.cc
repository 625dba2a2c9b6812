#include <ATen/Dispatch.h>

#include <cmath>

#include "training/optimizer.h"

namespace tandem::training {
namespace {

class AdamW : public Optimizer {
 public:
  AdamW(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights)
      : Optimizer(std::move(weights)), spec_(spec), mean_(ZerosLikeWeights()), square_(ZerosLikeWeights()) {}

  void Begin(int64_t step, double lr) override {
    lr_ = lr;
    double t = static_cast<double>(step + 1);
    step_size_ = lr / (1 - std::pow(spec_.beta1, t));
    square_correction_ = std::sqrt(1 - std::pow(spec_.beta2, t));
  }

  void Update(size_t index, const at::Tensor& gradient, int64_t begin, int64_t end) override {
    AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "AdamW::Update", [&] {
      UpdateRange(weights_[index].data_ptr<scalar_t>() + begin, mean_[index].data_ptr<scalar_t>() + begin,
                  square_[index].data_ptr<scalar_t>() + begin, gradient.const_data_ptr<scalar_t>() + begin,
                  end - begin);
    });
  }

  std::vector<std::pair<std::string, std::vector<at::Tensor>>> State() const override {
    return {{"mean", mean_}, {"square", square_}};
  }

 private:
  template <typename T>
  void UpdateRange(T* __restrict w, T* __restrict m, T* __restrict s, const T* __restrict g, int64_t n) const {
    const T shrink = static_cast<T>(1 - lr_ * spec_.weight_decay), beta2 = static_cast<T>(spec_.beta2),
            rest1 = static_cast<T>(1 - spec_.beta1), rest2 = static_cast<T>(1 - spec_.beta2),
            correction = static_cast<T>(square_correction_), eps = static_cast<T>(spec_.eps),
            step_size = static_cast<T>(step_size_);
    for (int64_t i = 0; i < n; ++i) {
      m[i] += rest1 * (g[i] - m[i]);
      s[i] = beta2 * s[i] + rest2 * g[i] * g[i];
      w[i] = shrink * w[i] - step_size * (m[i] / (std::sqrt(s[i]) / correction + eps));
    }
  }

  const spec::OptimizerSpec spec_;
  const std::vector<at::Tensor> mean_, square_;
  double lr_ = 0, step_size_ = 0, square_correction_ = 1;
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdamW(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights) {
  return std::make_unique<AdamW>(spec, std::move(weights));
}

}  // namespace tandem::training
