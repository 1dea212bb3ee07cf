// Engram's gate and write for many tokens: see `octavo.kernels.engram_lookup` for the formula.

#pragma once

#include "lanes.h"

namespace octavo {

// gates [kPanel]: of the products of streams h and keys k [D, kPanel], each normalised and with its gain [D].
inline void memory_gate(const float* h, const float* k, const float* q_gain, const float* k_gain, int D, int V,
                        float eps, float* gates) {
  const Lanes width = all(float(D));
  for (int v = 0; v < V; ++v) {
    Lanes both[2] = {all(0.f), all(0.f)}, hh[2] = {all(0.f), all(0.f)}, kk[2] = {all(0.f), all(0.f)};
    for (int d = 0; d < D; ++d) {
      const size_t at = size_t(d) * kPanel + v * kLanes;
      const Lanes a = load(h + at), b = load(k + at);
      both[d & 1] = fma(a * all(q_gain[d]), b * all(k_gain[d]), both[d & 1]);
      hh[d & 1] = fma(a, a, hh[d & 1]);
      kk[d & 1] = fma(b, b, kk[d & 1]);
    }
    const Lanes norms = root((hh[0] + hh[1]) / width + all(eps)) * root((kk[0] + kk[1]) / width + all(eps));
    float s[kLanes];
    store(s, (both[0] + both[1]) / (norms * root(width)));
    for (float& one : s) {
      const float size = std::sqrt(std::max(std::fabs(one), 1e-6f));
      one = one > 0.f ? size : one < 0.f ? -size : one;  // NaN stays
    }
    store(gates + v * kLanes, logistic(load(s)));
  }
}

// Streams [tokens, M, D] and memory rows [tokens, W] of a tile -> out: each stream plus its gate times the value.
inline void recall_tile(const Tile& tile, int M, int D, int W, float eps, const float* streams, const float* memory,
                        const float* weight, const float* q_gain, const float* k_gain, float* out) {
  thread_local Scratch scratch;
  const size_t apart = size_t(D) * kPanel, given = size_t(W) * kPanel, row = size_t(M) * D;
  float* rows = scratch.room(size_t(W + 2 * D) * kTile + apart + kPanel);
  float *value = rows + size_t(W) * kTile, *keys = value + size_t(D) * kTile, *h = keys + size_t(D) * kTile;
  float* gates = h + apart;
  for (int p = 0; p < tile.panels(); ++p)
    gather(memory + size_t(p) * kPanel * W, W, tile.of(p), W, rows + p * given);
  product(weight + row * W, D, W, tile, rows, given, value, apart);
  for (int m = 0; m < M; ++m) {
    product(weight + size_t(m) * D * W, D, W, tile, rows, given, keys, apart);
    for (int p = 0; p < tile.panels(); ++p) {
      const int tokens = tile.of(p), V = halves(tokens);
      const size_t at = p * kPanel * row + size_t(m) * D;
      gather(streams + at, row, tokens, D, h);
      memory_gate(h, keys + p * apart, q_gain + size_t(m) * D, k_gain + size_t(m) * D, D, V, eps, gates);
      for (int v = 0; v < V; ++v)
        for (int d = 0; d < D; ++d) {
          float* own = h + size_t(d) * kPanel + v * kLanes;
          store(own, fma(load(gates + v * kLanes), load(value + p * apart + (own - h)), load(own)));
        }
      scatter(h, tokens, D, out + at, row);
    }
  }
}

}  // namespace octavo
