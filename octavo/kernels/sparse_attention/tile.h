// A tile of queries of one sequence, and what its rows [queries * heads, K] gather from keys that pass by.
//
// A query of H heads is H rows of the products. Keys come in passes; of each pass a query sees a range, and neither end
// of the range falls from one query to the next. Passes begin where the caller says, and a query's results depend on
// its own ranges alone: a tile may begin at any query.

#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "../step/attend.h"
#include "products.h"
#include "softening.h"

namespace octavo {

constexpr int kTileRows = 256;  // rows of a tile: with a pass of keys and the scores they fit the second-level cache
constexpr int kPass = 192;      // entries of a pass, a multiple of every kPanel

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Room = std::unique_ptr<float[], Free>;

// Zeros, at the beginning of a cache line.
inline Room room(size_t n) {
  const size_t bytes = (n * sizeof(float) + 63) / 64 * 64;
  float* p = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (!p) throw std::bad_alloc();
  std::memset(p, 0, bytes);
  return Room(p);
}

inline int up_to(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

class Tile {
 public:
  // `a.width` is a multiple of kLanes.
  explicit Tile(const Attention& a)
      : a_(a),
        most_(std::max(1, kTileRows / a.heads)),
        columns_(up_to(std::max(kPass, a.window + most_ - 1), kPanel)),
        apart_(columns_ + 16) {  // rows of scores that lie a power of two apart would share few sets of the cache
    const size_t rows = up_to(most_ * a.heads, kRows * kSums), K = a.width;
    q_ = room(rows * K), sums_ = room(rows * K), scores_ = room(rows * apart_);
    keys_ = room(columns_ * K), values_ = room(columns_ * K), tops_ = room(rows), totals_ = room(rows * kLanes);
    from_.resize(rows), to_.resize(rows), keys_at_.resize(columns_);
  }

  int most() const { return most_; }

  // Begin with queries first .. first + count - 1 of q [queries, H, K]: their window and the sink.
  void begin(const float* q, int64_t first, int count) {
    const int H = a_.heads, K = a_.width, rows = count * H;
    count_ = count;
    const float scale = a_.scale * kLog2E, *own = q + size_t(first) * H * K;
    for (int r = 0; r < up_to(rows, kRows); ++r)
      for (int k = 0; k < K; ++k)
        q_[(size_t(r / kRows) * K + k) * kRows + r % kRows] = r < rows ? own[size_t(r) * K + k] * scale : 0.f;
    for (int r = 0; r < rows; ++r) octavo::begin(of(r), a_.sink[r % H], K);
    const int64_t last = a_.past + first, lowest = std::max<int64_t>(0, last - a_.window + 1);
    for (int i = 0; i < count; ++i)
      sees(i, int(std::max<int64_t>(0, last + i - a_.window + 1) - lowest), int(last + i + 1 - lowest));
    for (int i = 0; i < to_[rows - 1]; ++i) keys_at_[i] = a_.near + size_t(lowest + i) * K;
    pass(0.f);
  }

  // All entries that the queries see; `first` is their number in the call.
  void entries(int64_t first) {
    auto seen = [&](int64_t i) { return std::min((a_.first + first + i + 1) / a_.ratio, a_.length); };
    const int64_t all_of_them = seen(count_ - 1);
    int part = 0;
    for (int64_t lo = 0; lo < all_of_them; lo += kPass) {
      for (int i = 0; i < count_; ++i) sees(i, 0, int(std::min<int64_t>(std::max<int64_t>(seen(i) - lo, 0), kPass)));
      const int64_t n = std::min<int64_t>(kPass, all_of_them - lo);
      for (int64_t i = 0; i < n; ++i) {
        while (part + 1 < a_.parts && a_.starts[part + 1] <= lo + i) ++part;
        keys_at_[i] = a_.rows[part] + (lo + i - a_.starts[part]) * a_.width;
      }
      pass(a_.offset * kLog2E);
    }
  }

  // What row r of the products has gathered.
  Gathered of(int r) { return {&tops_[r], &totals_[r * kLanes], &sums_[size_t(r) * a_.width]}; }

  // out [count, H, K].
  void finish(float* out) {
    for (int r = 0; r < count_ * a_.heads; ++r) octavo::finish(of(r), a_.width, out + size_t(r) * a_.width);
  }

 private:
  // Query i of the tile sees keys from .. to - 1 of the pass.
  void sees(int i, int from, int to) {
    const int H = a_.heads;
    std::fill(&from_[i * H], &from_[i * H] + H, from);
    std::fill(&to_[i * H], &to_[i * H] + H, to);
    if (i == count_ - 1) std::fill(to_.begin() + (i + 1) * H, to_.end(), to);
  }

  void pass(float offset) {
    const int K = a_.width, rows = count_ * a_.heads, n = to_[rows - 1], padded = up_to(n, kPanel);
    for (int i = n; i < padded; ++i) keys_at_[i] = keys_at_[n - 1];
    pack_keys(keys_at_.data(), padded, K, keys_.get());
    pack_values(keys_at_.data(), n, K, columns_, values_.get());
    for (int e = 0; e < padded; e += kPanel)
      for (int r = 0; r < rows; r += kRows)
        if (from_[r] < e + kPanel && e < to_[r + kRows - 1])
          score_panel(&q_[size_t(r) * K], &keys_[size_t(e) * K], K, &scores_[size_t(r) * apart_ + e], apart_);
    for (int r = 0; r < rows; ++r) {
      float* row = &scores_[size_t(r) * apart_];
      const int from = from_[r], size = to_[r] - from, end = from + up_to(size, kLanes);
      if (size) soften(row + from, size, offset, of(r), K);
      std::fill(row, row + from, 0.f);
      if (end < n) std::fill(row + end, row + n, 0.f);
    }
    for (int e = 0; e < n; e += kDeep)
      for (int c = 0; c < K; c += width_at(c, K))
        for (int r = 0; r < rows; r += kSums)
          add_block(r, std::max(e, from_[r]), std::min(e + kDeep, to_[r + kSums - 1]), c);
  }

  // Rows r .. r + kSums - 1 of the sums, channels from c on, of the values lo .. hi - 1.
  void add_block(int r, int lo, int hi, int c) {
    if (lo >= hi) return;
    const int K = a_.width, width = width_at(c, K);
    const float *p = &scores_[size_t(r) * apart_ + lo], *values = &values_[size_t(c) * columns_ + lo * width];
    float* to = &sums_[size_t(r) * K + c];
    if (width == kBlock)
      add_values<kWide>(p, apart_, values, hi - lo, to, K);
    else
      add_values<1>(p, apart_, values, hi - lo, to, K);
  }

  const Attention& a_;
  const int most_, columns_, apart_;
  int count_ = 0;
  Room q_, sums_, scores_, keys_, values_, tops_, totals_;
  std::vector<int> from_, to_;           // of every row, the keys of the pass that it sees
  std::vector<const float*> keys_at_;    // keys of the pass
};

}  // namespace octavo
