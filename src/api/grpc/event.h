#pragma once
// What a completion queue gives back: an object that knows what to do next.

namespace tandem::api::rpc {

// Lives until it has fired.
class Event {
 public:
  // On the queue's own thread. `ok` is false when the operation did not succeed: the peer left, or the server stops.
  virtual void Fire(bool ok) = 0;

 protected:
  ~Event() = default;
};

// Calls a method of its owner.
template <typename Owner, void (Owner::*kMethod)(bool)>
class EventTo final : public Event {
 public:
  explicit EventTo(Owner* owner) : owner_(owner) {}
  void Fire(bool ok) override { (owner_->*kMethod)(ok); }

 private:
  Owner* const owner_;
};

}  // namespace tandem::api::rpc
