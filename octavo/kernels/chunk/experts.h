// The experts of many tokens: the router and the shared expert tile by tile, each routed expert over its own tokens.

#pragma once

#include "parts.h"

namespace octavo {

// hidden [panels, F, kPanel] = silu(min(w1 x, limit)) clamp(w3 x) for panels x [K, kPanel], times each token's share
// [panels, kPanel] unless that is null.
inline void into_expert(const float* w1, const float* w3, int F, int K, float limit, const Tile& tile, const float* x,
                        const float* shares, float* hidden) {
  constexpr int kPairs = kRows / 2;
  float both[kRows * kPanel];
  for (int f = 0; f < F; f += kPairs) {
    const int n = std::min(kPairs, F - f);
    for (int p = 0; p < tile.panels(); ++p) {
      const int tokens = tile.of(p);
      const float *gate_at = w1 + size_t(f) * K, *up_at = w3 + size_t(f) * K;
      const float* ahead = (p % 2 ? up_at : gate_at) + size_t(n) * K + size_t(p / 2) * (K / kLine) * 16;
      block_of(2 * n, tokens)(gate_at, up_at, K, x + size_t(p) * K * kPanel, K, ahead, both);
      for (int v = 0; v < halves(tokens); ++v) {
        const Lanes share = shares ? load(shares + size_t(p) * kPanel + v * kLanes) : all(1.f);
        for (int i = 0; i < n; ++i) {
          const Lanes gate = smaller(all(limit), load(both + i * kPanel + v * kLanes));
          const Lanes up = larger(all(-limit), smaller(all(limit), load(both + (n + i) * kPanel + v * kLanes)));
          store(hidden + (size_t(p) * F + f + i) * kPanel + v * kLanes, gate * logistic(gate) * up * share);
        }
      }
    }
  }
}

// Tokens of each expert: places ends[e] .. ends[e + 1] - 1 are its, in the order of the tokens.
struct Sorted {
  std::vector<int> ends, token, place;  // place [T, A]
  std::vector<float> share;
};

inline Sorted sort_by_expert(const int64_t* experts, const float* shares, int T, int A, int X) {
  Sorted made{std::vector<int>(X + 1), std::vector<int>(size_t(T) * A), std::vector<int>(size_t(T) * A),
              std::vector<float>(size_t(T) * A)};
  for (size_t i = 0; i < size_t(T) * A; ++i) ++made.ends[experts[i] + 1];
  for (int e = 0; e < X; ++e) made.ends[e + 1] += made.ends[e];
  std::vector<int> at(made.ends.begin(), made.ends.end() - 1);
  for (size_t i = 0; i < size_t(T) * A; ++i) {
    const int to = at[experts[i]]++;
    made.place[i] = to, made.token[to] = int(i / A), made.share[to] = shares[i];
  }
  return made;
}

// Experts and shares of a tile's tokens x [tokens, D], and the shared expert's output y.
inline void choose_tile(const Layer& l, const Tile& tile, const float* x, bool given, int64_t* experts, float* shares,
                        float* y) {
  const size_t D = l.width, S = l.shared_inner, X = l.experts, A = l.chosen;
  thread_local Scratch scratch;
  float* panels = scratch.room((2 * D + S + 2 * X) * kTile);
  float *hidden = panels + D * kTile, *raw = hidden + S * kTile, *scores = raw + X * kTile, *out = scores + X * kTile;
  for (int p = 0; p < tile.panels(); ++p)
    gather(x + size_t(p) * kPanel * D, D, tile.of(p), l.width, panels + size_t(p) * D * kPanel);
  product(l.gate, l.experts, l.width, tile, panels, D * kPanel, raw, X * kPanel);
  for (int p = 0; p < tile.panels(); ++p)
    scatter(raw + size_t(p) * X * kPanel, tile.of(p), l.experts, scores + size_t(p) * kPanel * X, X);
  for (int t = 0; t < tile.tokens; ++t) choose(l, given, scores + t * X, experts + t * A, shares + t * A);
  into_expert(l.s1, l.s3, l.shared_inner, l.width, l.limit, tile, panels, nullptr, hidden);
  product(l.s2, l.width, l.shared_inner, tile, hidden, S * kPanel, out, D * kPanel);
  for (int p = 0; p < tile.panels(); ++p)
    scatter(out + size_t(p) * D * kPanel, tile.of(p), l.width, y + size_t(p) * kPanel * D, D);
}

// Output rows lo .. hi - 1 of expert e, at most kTile.
inline void expert_rows(const Layer& l, const Sorted& sorted, int e, int lo, int hi, const float* x, float* rows) {
  const size_t D = l.width, F = l.inner;
  const Tile tile{hi - lo};
  thread_local Scratch scratch;
  float* panels = scratch.room((2 * D + F + 1) * kTile);
  float *hidden = panels + D * kTile, *out = hidden + F * kTile, *shares = out + D * kTile;
  for (int p = 0; p < tile.panels(); ++p) {
    const float* own[kPanel];
    for (int t = 0; t < tile.of(p); ++t) own[t] = x + sorted.token[lo + p * kPanel + t] * D;
    gather(own, tile.of(p), l.width, panels + size_t(p) * D * kPanel);
  }
  std::fill(shares, shares + kTile, 0.f);
  std::copy(sorted.share.begin() + lo, sorted.share.begin() + hi, shares);
  const float *w1 = l.w1 + e * F * D, *w3 = l.w3 + e * F * D, *w2 = l.w2 + e * F * D;
  into_expert(w1, w3, l.inner, l.width, l.limit, tile, panels, shares, hidden);
  product(w2, l.width, l.inner, tile, hidden, F * kPanel, out, D * kPanel);
  for (int p = 0; p < tile.panels(); ++p)
    scatter(out + size_t(p) * D * kPanel, tile.of(p), l.width, rows + size_t(lo + p * kPanel) * D, D);
}

// Rows [n, F] of hidden numbers of one expert: of x's rows `tokens` [n] (null: the first n), times their shares [n].
inline void hidden_rows(const Threads& threads, int n, int D, int F, float limit, const float* x, const int64_t* tokens,
                        const float* shares, const float* w1, const float* w3, float* hidden) {
  threads.tiles(n, [&](int first, const Tile& tile) {
    thread_local Scratch scratch;
    float *panels = scratch.room(size_t(D + F + 1) * kTile), *made = panels + size_t(D) * kTile;
    float* factor = made + size_t(F) * kTile;
    for (int p = 0; p < tile.panels(); ++p) {
      const float* own[kPanel];
      for (int t = 0; t < tile.of(p); ++t) {
        const int at = first + p * kPanel + t;
        own[t] = x + size_t(tokens ? tokens[at] : at) * D;
      }
      gather(own, tile.of(p), D, panels + size_t(p) * D * kPanel);
    }
    std::fill(factor, factor + kTile, 0.f);
    if (shares) std::copy(shares + first, shares + first + tile.tokens, factor);
    into_expert(w1, w3, F, D, limit, tile, panels, shares ? factor : nullptr, made);
    for (int p = 0; p < tile.panels(); ++p)
      scatter(made + size_t(p) * F * kPanel, tile.of(p), F, hidden + size_t(first + p * kPanel) * F, F);
  });
}

// out [T, O] = x [T, N] weight^T.
inline void linear_rows(const Threads& threads, int T, int N, int O, const float* x, const float* weight, float* out) {
  threads.tiles(T, [&](int first, const Tile& tile) {
    thread_local Scratch scratch;
    float *panels = scratch.room(size_t(N + O) * kTile), *made = panels + size_t(N) * kTile;
    for (int p = 0; p < tile.panels(); ++p)
      gather(x + size_t(first + p * kPanel) * N, N, tile.of(p), N, panels + size_t(p) * N * kPanel);
    product(weight, O, N, tile, panels, size_t(N) * kPanel, made, size_t(O) * kPanel);
    for (int p = 0; p < tile.panels(); ++p)
      scatter(made + size_t(p) * O * kPanel, tile.of(p), O, out + size_t(first + p * kPanel) * O, O);
  });
}

// out [D] = the sum of A rows of D numbers, from left to right; place [A] says where they are.
template <class Place>
inline void sum_rows(const float* rows, const Place* place, int A, int D, float* out) {
  std::copy(rows + size_t(place[0]) * D, rows + size_t(place[0] + 1) * D, out);
  for (int a = 1; a < A; ++a) {
    const float* part = rows + size_t(place[a]) * D;
    for (int d = 0; d < D; ++d) out[d] += part[d];
  }
}

// Experts of x [T, D], chosen here or given [T, A], and their write into the streams [T, M, D].
inline void mix_tokens(const Threads& threads, const Layer& l, int T, float* streams, const float* x,
                       const float* links, const int64_t* given) {
  const size_t M = l.streams, D = l.width, A = l.chosen, link = link_size(l.streams);
  thread_local Scratch scratch;
  float *y = scratch.room((A + 1) * T * D), *rows = y + T * D;
  std::vector<int64_t> experts(T * A);
  std::vector<float> shares(T * A);
  if (given) std::copy(given, given + T * A, experts.begin());
  threads.tiles(T, [&](int t, const Tile& tile) {
    choose_tile(l, tile, x + t * D, given != nullptr, experts.data() + t * A, shares.data() + t * A, y + t * D);
  });
  const Sorted sorted = sort_by_expert(experts.data(), shares.data(), T, l.chosen, l.experts);
  std::vector<int> expert, first;
  for (int e = 0; e < l.experts; ++e)
    for (int lo = sorted.ends[e]; lo < sorted.ends[e + 1]; lo += kTile) expert.push_back(e), first.push_back(lo);
  threads.share(int(first.size()), [&](int i) {
    expert_rows(l, sorted, expert[i], first[i], std::min(first[i] + kTile, sorted.ends[expert[i] + 1]), x, rows);
  });
  threads.tiles(T, [&](int first_token, const Tile& tile) {
    thread_local Scratch of_thread;
    float* routed = of_thread.room(D);
    for (int t = first_token; t < first_token + tile.tokens; ++t) {
      float* own = y + t * D;
      sum_rows(rows, sorted.place.data() + t * A, l.chosen, l.width, routed);
      for (size_t d = 0; d < D; ++d) own[d] += routed[d];
      kWriteRows[M](streams + t * M * D, own, links + t * link, l.width);
    }
  });
}

}  // namespace octavo
