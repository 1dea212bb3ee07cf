// Tokens side by side in vector registers: the numbers of up to kPanel tokens, channel after channel, and products with
// weights that are read where they lie.
//
// A panel is [channels, kPanel]: a channel of all its tokens is one or two registers, so norms, rotations and sums over
// channels need no shuffling, and what one product gives the next one takes. Rows are turned into panels, and back, in
// registers. Every token has a lane of its own and the order of its sums does not depend on the others: its bits are
// the same wherever it stands and whoever computes it.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "../step/vectors.h"

namespace octavo {

#define OCTAVO_INLINE inline __attribute__((always_inline))

constexpr int kPanel = 2 * kLanes;
constexpr int kTile = 128;  // tokens that pass a weight together: their panels stay in the second cache
constexpr int kPanels = kTile / kPanel;
#ifdef __AVX512F__
constexpr int kRows = 12;  // rows of a weight at a time: with two registers of tokens, 24 sums of 32 registers
constexpr int kLine = 4;   // steps in which a line is fetched: while a tile passes some rows, the next ones arrive
#else
constexpr int kRows = 6;
constexpr int kLine = 16;
#endif

#ifdef __AVX512F__
OCTAVO_INLINE void transpose(Lanes (&v)[kLanes]) {
  Lanes t[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2)
    t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]), t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  auto low = [](Lanes a, Lanes b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  auto high = [](Lanes a, Lanes b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    v[i] = low(t[i], t[i + 2]), v[i + 1] = high(t[i], t[i + 2]);
    v[i + 2] = low(t[i + 1], t[i + 3]), v[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm512_shuffle_f32x4(v[c], v[4 + c], 0x88), t[4 + c] = _mm512_shuffle_f32x4(v[c], v[4 + c], 0xdd);
    t[8 + c] = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0x88);
    t[12 + c] = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0xdd);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    v[c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0x88), v[8 + c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0xdd);
    v[4 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0x88);
    v[12 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0xdd);
  }
}
#else
OCTAVO_INLINE void transpose(Lanes (&v)[kLanes]) {
  Lanes t[kLanes];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2)
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]), t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  auto low = [](Lanes a, Lanes b) {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
  };
  auto high = [](Lanes a, Lanes b) {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
  };
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    v[i] = low(t[i], t[i + 2]), v[i + 1] = high(t[i], t[i + 2]);
    v[i + 2] = low(t[i + 1], t[i + 3]), v[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm256_permute2f128_ps(v[c], v[4 + c], 0x20);
    t[4 + c] = _mm256_permute2f128_ps(v[c], v[4 + c], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}
#endif

// Numbers that a thread works in; they grow and stay, since fresh memory costs more than what is done in it.
class Scratch {
 public:
  float* room(size_t numbers) {
    if (numbers > held_) {
      at_.reset(static_cast<float*>(std::aligned_alloc(64, (numbers * sizeof(float) + 63) / 64 * 64)));
      if (!at_) std::abort();
      held_ = numbers;
    }
    return at_.get();
  }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> at_;
  size_t held_ = 0;
};

// Registers of a panel that has so many tokens.
inline int halves(int tokens) { return tokens > kLanes ? 2 : 1; }

// Panel [n, kPanel] of the rows of up to kPanel tokens, n numbers each.
inline void gather(const float* const* rows, int tokens, int n, float* panel) {
  for (int half = 0; half < halves(tokens); ++half) {
    const float* own[kLanes];
    for (int i = 0; i < kLanes; ++i) own[i] = rows[std::min(half * kLanes + i, tokens - 1)];
    float* to = panel + half * kLanes;
    int k = 0;
    for (; k + kLanes <= n; k += kLanes) {
      Lanes v[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        v[i] = load(own[i] + k);
        __builtin_prefetch(own[i] + k + 2 * kLanes);  // so many rows at once are more than the processor foresees
      }
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(to + size_t(k + i) * kPanel, v[i]);
    }
    for (; k < n; ++k)
      for (int i = 0; i < kLanes; ++i) to[size_t(k) * kPanel + i] = own[i][k];
  }
}

// The same of tokens whose rows lie `apart` numbers from each other.
inline void gather(const float* rows, size_t apart, int tokens, int n, float* panel) {
  const float* own[kPanel];
  for (int t = 0; t < tokens; ++t) own[t] = rows + t * apart;
  gather(own, tokens, n, panel);
}

// The rows of a panel [n, kPanel], each `apart` numbers from the one before; `bias` [tokens] is added, if there is any.
inline void scatter(const float* panel, int tokens, int n, float* rows, size_t apart,
                    const float* const* bias = nullptr) {
  for (int half = 0; half < halves(tokens); ++half) {
    const float* from = panel + half * kLanes;
    const int first = half * kLanes, count = std::min(kLanes, tokens - first);
    int k = 0;
    for (; k + kLanes <= n; k += kLanes) {
      Lanes v[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) v[i] = load(from + size_t(k + i) * kPanel);
      transpose(v);
      if (bias)
        for (int i = 0; i < count; ++i) store(rows + (first + i) * apart + k, v[i] + load(bias[first + i] + k));
      else if (count == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(rows + (first + i) * apart + k, v[i]);
      } else
        for (int i = 0; i < count; ++i) store(rows + (first + i) * apart + k, v[i]);
    }
    for (; k < n; ++k)
      for (int i = 0; i < count; ++i)
        rows[(first + i) * apart + k] = from[size_t(k) * kPanel + i] + (bias ? bias[first + i][k] : 0.f);
  }
}

// R rows of a weight, or of two, times one panel: rows 0 .. H - 1 at `a`, H = (R + 1) / 2, the others at `b`, each
// `row` numbers from the one before; out [R, kPanel]. What lies at `ahead` is fetched meanwhile, a line in kLine steps.
template <int R, int V>
void block(const float* a, const float* b, size_t row, const float* x, int K, const float* ahead, float* out) {
  constexpr int H = (R + 1) / 2;
  Lanes sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = all(0.f);
  const float *a3 = a + 3 * row, *b3 = b + 3 * row;
  auto step = [&]() __attribute__((always_inline)) {
    Lanes own[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) own[v] = load(x + v * kLanes);
    x += kPanel;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const int h = r < H ? r : r - H;
      const float* base = r < H ? (h < 3 ? a : a3) : (h < 3 ? b : b3);
      const Lanes w = all(base[(h % 3) * row]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = fma(w, own[v], sum[r][v]);
    }
    ++a, ++a3, ++b, ++b3;
  };
  int k = 0;
  for (; k + kLine <= K; k += kLine) {
    __builtin_prefetch(ahead, 0, 3);
    ahead += 16;
    for (int i = 0; i < kLine; ++i) step();
  }
  for (; k < K; ++k) step();
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(out + r * kPanel + v * kLanes, sum[r][v]);
}

using Block = void (*)(const float*, const float*, size_t, const float*, int, const float*, float*);

inline Block block_of(int rows, int tokens) {
#define OCTAVO_BLOCK(R) {block<R, 1>, block<R, 2>}
  static constexpr Block made[][2] = {
      {nullptr, nullptr}, OCTAVO_BLOCK(1), OCTAVO_BLOCK(2), OCTAVO_BLOCK(3), OCTAVO_BLOCK(4), OCTAVO_BLOCK(5),
      OCTAVO_BLOCK(6),
#ifdef __AVX512F__
      OCTAVO_BLOCK(7), OCTAVO_BLOCK(8), OCTAVO_BLOCK(9), OCTAVO_BLOCK(10), OCTAVO_BLOCK(11), OCTAVO_BLOCK(12),
#endif
  };
#undef OCTAVO_BLOCK
  return made[rows][halves(tokens) - 1];
}

// The tokens of a tile, panel by panel.
struct Tile {
  int tokens;
  int panels() const { return (tokens + kPanel - 1) / kPanel; }
  int of(int panel) const { return std::min(kPanel, tokens - panel * kPanel); }
};

// weight [rows, K] times panels [K, kPanel] that lie `x_apart` numbers from each other, to panels [rows, kPanel].
inline void product(const float* weight, int rows, int K, const Tile& tile, const float* x, size_t x_apart, float* out,
                    size_t apart) {
  for (int o = 0; o < rows; o += kRows) {
    const int n = std::min(kRows, rows - o);
    const float *a = weight + size_t(o) * K, *b = a + size_t((n + 1) / 2) * K;
    for (int p = 0; p < tile.panels(); ++p)
      block_of(n, tile.of(p))(a, b, K, x + p * x_apart, K, a + size_t(n) * K + size_t(p) * (K / kLine) * 16,
                              out + p * apart + size_t(o) * kPanel);
  }
}

}  // namespace octavo
