// Threads that share out the items of a loop, and go to sleep when nothing comes for a while.
//
// The caller runs the items too, and takes whatever no other thread has taken: a helper that the system does not run
// costs nothing but its share, so cores that are busy with something else never stop a step. Items are taken one by one
// from a counter; what an item computes must not depend on who computes it.
//
// Covers: one loop at a time in a process. A second caller runs its loop alone. Helpers are made at the first call, and
// anew in a process that was forked.

#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace octavo {

using Item = void (*)(void* context, int item);

class Team {
 public:
  // Runs item(context, i) for 0 <= i < items on up to `threads` threads; returns when all are done.
  static void run(int threads, int items, Item item, void* context) {
    if (threads > 1 && items > 1 && items < kMostItems) {
      Team* team = mine();
      if (!team->busy_.test_and_set(std::memory_order_acquire)) {
        team->share(threads, items, item, context);
        team->busy_.clear(std::memory_order_release);
        return;
      }
    }
    for (int i = 0; i < items; ++i) item(context, i);
  }

 private:
  // A ticket is one number, so that it is read and taken in one step: loop (24 bits), items (20), next item (20).
  static constexpr int kBits = 20;
  static constexpr uint64_t kMask = (uint64_t(1) << kBits) - 1;
  static constexpr int kMostItems = 1 << (kBits - 1);
  static constexpr int kMostHelpers = 63;
  static constexpr int kSpins = 500;
  static constexpr auto kWatch = std::chrono::microseconds(200);  // a helper watches so long before it sleeps

  static Team* mine() {
    static std::atomic<Team*> held{nullptr};
    Team* team = held.load(std::memory_order_acquire);
    if (team && team->process_ == getpid()) return team;
    Team* fresh = new Team;  // never deleted: helpers hold it until the process ends
    if (held.compare_exchange_strong(team, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;
    return held.load(std::memory_order_acquire);
  }

  void share(int threads, int items, Item item, void* context) {
    for (; helpers_ < threads - 1 && helpers_ < kMostHelpers; ++helpers_)
      std::thread([this, number = helpers_] { help(number); }).detach();
    item_ = item;
    context_ = context;
    wanted_.store(threads - 1, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    loop_ = (loop_ + 1) & 0xffffff;
    ticket_.store(uint64_t(loop_) << (2 * kBits) | uint64_t(items) << kBits, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    finish(take_all());
    for (int waited = 0; done_.load(std::memory_order_acquire) != items; ++waited) {
      __builtin_ia32_pause();
      if (waited == kSpins) return sleep_until(items);
    }
  }

  // A helper that has an item and does not run is often waiting behind other work for its core: who sleeps leaves it one.
  void sleep_until(int items) {
    std::unique_lock<std::mutex> lock(mutex_);
    awaited_.store(items, std::memory_order_seq_cst);
    ended_.wait(lock, [&] { return done_.load(std::memory_order_seq_cst) == items; });
    awaited_.store(0, std::memory_order_relaxed);
  }

  static bool open(uint64_t ticket) { return (ticket & kMask) < (ticket >> kBits & kMask); }

  // Runs items until all are taken; how many. Only who took an item reads what the loop is: it cannot end before those
  // items are told of by `finish`, which is once a loop and not once an item, since every thread writes there.
  int take_all() {
    for (int taken = 0;; ++taken) {
      if (!open(ticket_.load(std::memory_order_acquire))) return taken;
      const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
      if (!open(ticket)) return taken;
      item_(context_, int(ticket & kMask));
    }
  }

  void finish(int taken) {
    const int done = done_.fetch_add(taken, std::memory_order_seq_cst) + taken;
    if (awaited_.load(std::memory_order_seq_cst) == done) {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_.notify_one();
    }
  }

  void help(int number) {
    using Clock = std::chrono::steady_clock;
    auto since = Clock::now();
    for (int turn = 1;; ++turn) {
      const int taken = number < wanted_.load(std::memory_order_relaxed) ? take_all() : 0;
      if (taken) {
        finish(taken);
        since = Clock::now();
        continue;
      }
      __builtin_ia32_pause();
      if (turn % 64 || Clock::now() - since < kWatch) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] {
        return number < wanted_.load(std::memory_order_relaxed) && open(ticket_.load(std::memory_order_seq_cst));
      });
      asleep_.fetch_sub(1, std::memory_order_seq_cst);
      since = Clock::now();
    }
  }

  const pid_t process_ = getpid();
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  int helpers_ = 0;
  uint32_t loop_ = 0;
  Item item_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::atomic<int> wanted_{0};
  std::atomic<int> awaited_{0};  // items whose end the caller sleeps for
  std::mutex mutex_;
  std::condition_variable wake_, ended_;
};

template <class Work>
void share(int threads, int items, const Work& work) {
  Team::run(threads, items, [](void* context, int item) { (*static_cast<const Work*>(context))(item); },
            const_cast<Work*>(&work));
}

}  // namespace octavo
