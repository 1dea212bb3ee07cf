// Listed entries of a tile of queries, query by query: each has rows of its own, shared by its heads alone.
//
// Rows are read where they lie, a group at a time that stays in the first-level cache for both products, and are
// fetched ahead of their use, across queries. Scores are sums over lanes of channels: to turn rows round for a handful
// of heads would cost as much as the product.

#pragma once

#include "tile.h"

namespace octavo {

constexpr int kGroup = 32;    // rows of a group
constexpr int kFetched = 32;  // rows on their way
constexpr int kApart = kGroup + 16;

#ifdef __AVX512F__
constexpr int kTogether = 4;  // heads whose scores with four rows are computed together

// The sums over lanes of the products of heads with four rows: scores [kTogether, kApart].
inline void store_sums(const Lanes (&s)[kTogether][4], float* scores) {
  auto half = [](Lanes x, Lanes y) { return _mm512_mask_blend_ps(0xFF00, x, y) + _mm512_shuffle_f32x4(x, y, 0x4E); };
  const __m512i odd = _mm512_setr_epi64(2, 3, 8, 9, 6, 7, 12, 13);
  Lanes row[4];  // a quarter of each of four heads
#pragma GCC unroll 4
  for (int e = 0; e < 4; ++e) {
    const Lanes x = half(s[0][e], s[2][e]), y = half(s[1][e], s[3][e]);
    const __m512d turned = _mm512_permutex2var_pd(_mm512_castps_pd(x), odd, _mm512_castps_pd(y));
    row[e] = _mm512_mask_blend_ps(0xF0F0, x, y) + _mm512_castpd_ps(turned);
  }
  const Lanes a = _mm512_unpacklo_ps(row[0], row[1]) + _mm512_unpackhi_ps(row[0], row[1]);
  const Lanes b = _mm512_unpacklo_ps(row[2], row[3]) + _mm512_unpackhi_ps(row[2], row[3]);
  const Lanes four = _mm512_mask_blend_ps(0xCCCC, a, b) + _mm512_shuffle_ps(a, b, 0x4E);
  _mm_storeu_ps(scores, _mm512_castps512_ps128(four));
  _mm_storeu_ps(scores + kApart, _mm512_extractf32x4_ps(four, 1));
  _mm_storeu_ps(scores + 2 * kApart, _mm512_extractf32x4_ps(four, 2));
  _mm_storeu_ps(scores + 3 * kApart, _mm512_extractf32x4_ps(four, 3));
}
#else
constexpr int kTogether = 2;

inline void store_sums(const Lanes (&s)[kTogether][4], float* scores) {
  Lanes row[4];  // a half of each of two heads
#pragma GCC unroll 4
  for (int e = 0; e < 4; ++e)
    row[e] = _mm256_blend_ps(s[0][e], s[1][e], 0xF0) + _mm256_permute2f128_ps(s[0][e], s[1][e], 0x21);
  const Lanes a = _mm256_unpacklo_ps(row[0], row[1]) + _mm256_unpackhi_ps(row[0], row[1]);
  const Lanes b = _mm256_unpacklo_ps(row[2], row[3]) + _mm256_unpackhi_ps(row[2], row[3]);
  const Lanes four = _mm256_blend_ps(a, b, 0xCC) + _mm256_shuffle_ps(a, b, 0x4E);
  _mm_storeu_ps(scores, _mm256_castps256_ps128(four));
  _mm_storeu_ps(scores + kApart, _mm256_extractf128_ps(four, 1));
}
#endif

// scores [kTogether, kApart], four of each row: q [kTogether, K] times four rows.
inline void score_four(const float* q, const float* const* rows, int K, float* scores) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  Lanes sums_of[kTogether][4];
#pragma GCC unroll 4
  for (int h = 0; h < kTogether; ++h)
#pragma GCC unroll 4
    for (int e = 0; e < 4; ++e) sums_of[h][e] = all(0.f);
  for (int k = 0; k < K; k += kLanes) {
    const Lanes v[4] = {load(r0 + k), load(r1 + k), load(r2 + k), load(r3 + k)};
#pragma GCC unroll 4
    for (int h = 0; h < kTogether; ++h) {
      const Lanes x = load(q + h * K + k);
#pragma GCC unroll 4
      for (int e = 0; e < 4; ++e) sums_of[h][e] = fma(x, v[e], sums_of[h][e]);
    }
  }
  store_sums(sums_of, scores);
}

// sums [M, K] from channel c on, N vectors, += p [M, kApart] times n rows.
template <int M, int N>
void add_rows(const float* p, const float* const* rows, int n, int c, float* sums, int K) {
  Lanes sums_of[M][N];
#pragma GCC unroll 4
  for (int h = 0; h < M; ++h)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sums_of[h][j] = load(sums + h * K + c + j * kLanes);
  for (int e = 0; e < n; ++e) {
    Lanes row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = load(rows[e] + c + j * kLanes);
#pragma GCC unroll 4
    for (int h = 0; h < M; ++h) {
      const Lanes share = all(p[h * kApart + e]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums_of[h][j] = fma(share, row[j], sums_of[h][j]);
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < M; ++h)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) store(sums + h * K + c + j * kLanes, sums_of[h][j]);
}

template <int M>
void add_to_heads(const float* p, const float* const* rows, int n, float* sums, int K) {
  int c = 0;
  for (; c + kBlock <= K; c += kBlock) add_rows<M, kWide>(p, rows, n, c, sums, K);
  for (; c < K; c += kLanes) add_rows<M, 1>(p, rows, n, c, sums, K);
}

class Listed {
 public:
  explicit Listed(const Attention& a)
      : a_(a), heads_(up_to(a.heads, 4)), q_(room(size_t(heads_) * a.width)), p_(room(size_t(heads_) * kApart)) {}

  // The entries that queries first .. first + count - 1 of q [queries, H, K] list, into a tile that began with them.
  void add(const float* q, int64_t first, int count, Tile& tile) {
    find(first, count);
    const size_t size = size_t(a_.heads) * a_.width;
    const float scale = a_.scale * kLog2E;
    for (int s = 0; s < count; ++s) {
      const float* own = q + (first + s) * size;
      for (size_t i = 0; i < size; ++i) q_[i] = own[i] * scale;
      for (size_t i = ends_[s]; i < ends_[s + 1]; i += kGroup)
        group(i, int(std::min<size_t>(kGroup, ends_[s + 1] - i)), tile, s * a_.heads);
    }
  }

 private:
  // Where the rows of these queries lie.
  void find(int64_t first, int count) {
    rows_.resize(size_t(count) * a_.picks);
    ends_.assign(1, 0);
    const float** to = rows_.data();
    for (int64_t t = first; t < first + count; ++t) {
      const int64_t* own = a_.listed + t * a_.picks;
      for (int i = 0; i < a_.picks; ++i) {
        const int64_t entry = std::max<int64_t>(own[i], 0);
        const int64_t* next = a_.starts + a_.parts;
        if (a_.parts > 1) next = std::upper_bound(a_.starts + 1, next, entry);
        const int64_t part = next - a_.starts - 1;
        *to = a_.rows[part] + (entry - a_.starts[part]) * a_.width;
        to += own[i] >= 0;
      }
      ends_.push_back(to - rows_.data());
    }
    rows_.resize(ends_.back());
  }

  // Rows from number i on into the second-level cache. Inlined, since a compiler may drop a call that only fetches.
  __attribute__((always_inline)) void fetch(size_t i, int n) const {
    for (const size_t end = std::min(i + n, rows_.size()); i < end; ++i)
      for (int k = 0; k < a_.width; k += 16) _mm_prefetch(reinterpret_cast<const char*>(rows_[i] + k), _MM_HINT_T1);
  }

  // n rows from number `begin` on, into the tile's rows r .. r + H - 1.
  void group(size_t begin, int n, Tile& tile, int r) {
    const int H = a_.heads, K = a_.width;
    const float* rows[kGroup];
    std::copy_n(rows_.data() + begin, n, rows);
    std::fill(rows + n, rows + up_to(n, 4), rows[n - 1]);
    for (int e = 0; e < n; e += 4) {
      fetch(begin + e + kFetched, 4);
      for (int h = 0; h < H; h += kTogether)
        score_four(&q_[size_t(h) * K], rows + e, K, &p_[size_t(h) * kApart + e]);
    }
    for (int h = 0; h < H; ++h) soften(&p_[size_t(h) * kApart], n, 0.f, tile.of(r + h), K);
    for (int h = 0; h < H; h += 4) {
      const float* p = &p_[size_t(h) * kApart];
      float* sums = tile.of(r + h).sums;
      switch (std::min(4, H - h)) {
        case 4: add_to_heads<4>(p, rows, n, sums, K); break;
        case 3: add_to_heads<3>(p, rows, n, sums, K); break;
        case 2: add_to_heads<2>(p, rows, n, sums, K); break;
        case 1: add_to_heads<1>(p, rows, n, sums, K); break;
      }
    }
  }

  const Attention& a_;
  const int heads_;
  Room q_, p_;
  std::vector<const float*> rows_;  // of all queries of the tile
  std::vector<size_t> ends_;        // where each query's rows begin, and where the last one's end
};

}  // namespace octavo
