// The parts of a layer around attention, for a handful of tokens: see step.cpp for what each takes and gives.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "team.h"
#include "vectors.h"

namespace octavo {

// Sizes, rules and weights of a layer, in the order in which `octavo.kernels.step.library` writes them. A layer without
// a compressor or an indexer has zero for their widths and null for their weights.
struct Layer {
  int32_t width, streams, heads, head_width, pairs, latent, groups, rank;
  int32_t raw, ratio, index_heads, index_width, index_raw;
  int32_t experts, chosen, inner, shared_inner, iterations, normalised, padding;
  float eps, norm_eps, limit, scale;
  const float *attn_fn, *attn_base, *attn_scale, *attn_gain;
  const float *wq_a, *q_gain, *wq_b, *wkv, *kv_gain;
  const float *main_kv, *main_gate, *main_bias;
  const float *index_q, *index_proj, *index_kv, *index_gate, *index_bias;
  const float *wo_a, *wo_b;
  const float *ffn_fn, *ffn_base, *ffn_scale, *ffn_gain;
  const float *gate, *w1, *w3, *w2, *s1, *s3, *s2, *bias;
  const float *main_norm, *index_norm, *sink;
};

// out [T, rows] (`apart` from token to token) = x [T, width] weight^T.
struct Map {
  const float* weight;
  int rows, width;
  const float* x;
  size_t x_apart;
  float* out;
  size_t apart;
};

constexpr int kItem = 8192;  // numbers of a weight that a thread takes at a time

inline int rows_of_item(int width) { return std::max(4, kItem / std::max(width, 1) / 4 * 4); }
inline int items_of(int rows, int width) {
  const int each = rows_of_item(width);
  return (rows + each - 1) / each;
}

inline void products(const Map& m, int T, int lo, int hi) {
  int o = lo;
  for (; o + 4 <= hi; o += 4)  // four rows stay in the nearest cache while every token passes
    for (int t = 0; t < T; ++t)
      four_dots(m.weight + size_t(o) * m.width, m.width, m.x + t * m.x_apart, m.width, m.out + t * m.apart + o);
  for (; o < hi; ++o)
    for (int t = 0; t < T; ++t)
      m.out[t * m.apart + o] = dot(m.weight + size_t(o) * m.width, m.x + t * m.x_apart, m.width);
}

// All maps at once; none may read what another writes.
inline void run_maps(int threads, int T, const std::vector<Map>& maps) {
  int items = 0;
  for (const Map& m : maps) items += items_of(m.rows, m.width);
  share(threads, items, [&](int item) {
    for (const Map& m : maps) {
      const int own = items_of(m.rows, m.width), each = rows_of_item(m.width);
      if (item < own) return products(m, T, item * each, std::min((item + 1) * each, m.rows));
      item -= own;
    }
  });
}

// What the write behind a sublayer needs of each token: post [M], comb [M, M].
inline int link_size(int streams) { return streams * (1 + streams); }

// Column steps with row steps between; what they leave of c[i, j] is by_row[i] c[i, j] by_column[j].
inline void sinkhorn(float* c, int M, int iterations, float eps, float* factors) {
  float *by_row = factors, *by_column = factors + M;
  std::fill(factors, factors + 2 * M, 1.f);
  for (int step = 0; step < iterations; ++step) {
    for (int i = 0; step && i < M; ++i) {
      float total = 0.f;
      for (int j = 0; j < M; ++j) total += c[i * M + j] * by_column[j];
      by_row[i] /= by_row[i] * total + eps;
    }
    for (int j = 0; j < M; ++j) {
      float total = 0.f;
      for (int i = 0; i < M; ++i) total += c[i * M + j] * by_row[i];
      by_column[j] /= by_column[j] * total + eps;
    }
  }
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < M; ++j) c[i * M + j] *= by_row[i] * by_column[j];
}

inline float logistic(float x) { return 1.f / (1.f + std::exp(-x)); }

// pre [M] and the link of one token from the raw product [M * (2 + M)] of its streams.
inline void gates(const float* raw, float rho, const float* base, const float* scale, int M, int iterations, float eps,
                  float* pre, float* link, float* factors) {
  float *post = link, *c = link + M;
  for (int j = 0; j < M; ++j) {
    pre[j] = logistic(raw[j] * rho * scale[0] + base[j]) + eps;
    post[j] = 2.f * logistic(raw[M + j] * rho * scale[1] + base[M + j]);
  }
  raw += 2 * M, base += 2 * M;
  for (int i = 0; i < M; ++i) {
    float *row = c + i * M, top = raw[i * M] * rho * scale[2] + base[i * M], total = 0.f;
    for (int j = 0; j < M; ++j) {
      row[j] = raw[i * M + j] * rho * scale[2] + base[i * M + j];
      top = std::max(top, row[j]);
    }
    for (int j = 0; j < M; ++j) total += row[j] = std::exp(row[j] - top);
    for (int j = 0; j < M; ++j) row[j] = row[j] / total + eps;
  }
  sinkhorn(c, M, iterations, eps, factors);
}

// x [D] = sum_j pre[j] streams[j].
inline void read_streams(const float* streams, const float* pre, int M, int D, float* x) {
  for (int d = 0; d < D; ++d) x[d] = pre[0] * streams[d];
  for (int j = 1; j < M; ++j) add_scaled(pre[j], streams + size_t(j) * D, D, x);
}

// Channels lo .. hi - 1 of out [M, D]: out_k = post[k] y + sum_j comb[j, k] streams_j.
inline void write_streams(const float* streams, const float* y, const float* link, int M, int D, int lo, int hi,
                          float* out) {
  const float *post = link, *comb = link + M;
  for (int k = 0; k < M; ++k) {
    float* row = out + size_t(k) * D;
    for (int d = lo; d < hi; ++d) row[d] = post[k] * y[d];
    for (int j = 0; j < M; ++j) add_scaled(comb[j * M + k], streams + size_t(j) * D + lo, hi - lo, row + lo);
  }
}

// How a sublayer begins: x [T, D] normalised, and links, from streams [T, M, D].
inline void begin(int threads, int T, int M, int D, int iterations, float eps, float norm_eps, const float* streams,
                  const float* fn, const float* base, const float* scale, const float* gain, float* x, float* links) {
  const int mixes = M * (2 + M), all_of = M * D;
  std::vector<float> raw(size_t(T) * mixes), small(3 * M);
  run_maps(threads, T, {{fn, mixes, all_of, streams, size_t(all_of), raw.data(), size_t(mixes)}});
  for (int t = 0; t < T; ++t) {
    const float* own = streams + size_t(t) * all_of;
    float *pre = small.data(), *out = x + size_t(t) * D;
    const float rho = inverse_rms(own, all_of, norm_eps);
    gates(raw.data() + size_t(t) * mixes, rho, base, scale, M, iterations, eps, pre, links + t * link_size(M),
          small.data() + M);
    read_streams(own, pre, M, D, out);
    normalise(out, gain, D, norm_eps, out);
  }
}

// Scores of the router's raw products [X], in place; experts [A], unless they are given, and their shares.
inline void choose(const Layer& l, bool given, float* scores, int64_t* experts, float* shares) {
  for (int e = 0; e < l.experts; ++e) {
    const float z = scores[e];
    scores[e] = std::sqrt(std::max(z, 0.f) + std::log1p(std::exp(-std::fabs(z))));
  }
  for (int a = 0; !given && a < l.chosen; ++a) {
    float best = 0.f;
    int64_t found = -1;
    for (int e = 0; e < l.experts; ++e) {
      const float rank = scores[e] + (l.bias ? l.bias[e] : 0.f);
      const bool taken = std::find(experts, experts + a, e) != experts + a;
      if (!taken && (found < 0 || rank > best)) best = rank, found = e;
    }
    experts[a] = found;
  }
  float total = 0.f;
  for (int a = 0; a < l.chosen; ++a) total += shares[a] = scores[experts[a]];
  const float factor = l.normalised ? l.scale / std::max(total, 1e-20f) : l.scale;
  for (int a = 0; a < l.chosen; ++a) shares[a] *= factor;
}

// Inner numbers lo .. hi - 1 of one expert for one token.
inline void into_expert(const float* w1, const float* w3, const float* x, int D, float limit, float share, int lo,
                        int hi, float* hidden) {
  float gate[4], up[4];
  for (int f = lo; f < hi; f += 4) {
    const int n = std::min(4, hi - f);
    if (n == 4) {
      four_dots(w1 + size_t(f) * D, D, x, D, gate);
      four_dots(w3 + size_t(f) * D, D, x, D, up);
    }
    for (int i = 0; i < n; ++i) {
      if (n < 4) gate[i] = dot(w1 + size_t(f + i) * D, x, D), up[i] = dot(w3 + size_t(f + i) * D, x, D);
      const float g = std::min(gate[i], limit), u = std::max(std::min(up[i], limit), -limit);
      hidden[f + i] = g / (1.f + std::exp(-g)) * u * share;
    }
  }
}

// out[d] += w2[d] . hidden for lo <= d < hi.
inline void out_of_expert(const float* w2, const float* hidden, int F, int lo, int hi, float* out) {
  int d = lo;
  for (float four[4]; d + 4 <= hi; d += 4) {
    four_dots(w2 + size_t(d) * F, F, hidden, F, four);
    for (int i = 0; i < 4; ++i) out[d + i] += four[i];
  }
  for (; d < hi; ++d) out[d] += dot(w2 + size_t(d) * F, hidden, F);
}

}  // namespace octavo
