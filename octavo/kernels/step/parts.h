// The parts of a layer: before attention, between attention and experts, the experts; and the entries a step completes.

#pragma once

#include "entry.h"
#include "layer.h"

namespace octavo {

// Streams [T, M, D], cos and sin [T, P] -> links, and what `octavo.kernels.projections.Inputs` names. Scores of raw
// rows have the position bias of the tokens' numbers already; token t has the number number_of(t).
template <class Number>
inline void enter(int threads, const Layer& l, int T, const Number& number_of, const float* streams, const float* cosine,
                  const float* sine, float* links, float* q, float* kv, float* raw, float* index_q, float* index_w,
                  float* index_raw) {
  const size_t D = l.width, Q = l.latent, K = l.head_width, HK = size_t(l.heads) * K, R = l.raw, W = l.index_raw;
  const size_t I = l.index_heads, J = l.index_width;
  std::vector<float> x(T * D), latent(T * Q);
  begin(threads, T, l.streams, l.width, l.iterations, l.eps, l.norm_eps, streams, l.attn_fn, l.attn_base, l.attn_scale,
        l.attn_gain, x.data(), links);
  std::vector<Map> maps{{l.wq_a, l.latent, l.width, x.data(), D, latent.data(), Q},
                        {l.wkv, l.head_width, l.width, x.data(), D, kv, K}};
  for (int half = 0; R && half < 2; ++half)
    maps.push_back({half ? l.main_gate : l.main_kv, l.raw, l.width, x.data(), D, raw + half * R, 2 * R});
  for (int half = 0; W && half < 2; ++half)
    maps.push_back({half ? l.index_gate : l.index_kv, l.index_raw, l.width, x.data(), D, index_raw + half * W, 2 * W});
  if (I) maps.push_back({l.index_proj, l.index_heads, l.width, x.data(), D, index_w, I});
  run_maps(threads, T, maps);
  for (int t = 0; t < T; ++t) normalise(latent.data() + t * Q, l.q_gain, l.latent, l.norm_eps, latent.data() + t * Q);
  std::vector<Map> behind{{l.wq_b, int(HK), l.latent, latent.data(), Q, q, HK}};
  if (I) behind.push_back({l.index_q, int(I * J), l.latent, latent.data(), Q, index_q, I * J});
  run_maps(threads, T, behind);
  const float share = 1.f / std::sqrt(float(I * J)), orthonormal = 1.f / std::sqrt(float(J));
  for (int t = 0; t < T; ++t) {
    const float *c = cosine + t * l.pairs, *s = sine + t * l.pairs;
    const size_t place = R || W ? number_of(t) % l.ratio : 0;
    normalise(kv + t * K, l.kv_gain, l.head_width, l.norm_eps, kv + t * K);
    turn(kv + t * K, l.head_width, c, s, l.pairs, 1.f);
    for (size_t n = 0; n < R; ++n) raw[t * 2 * R + R + n] += l.main_bias[place * R + n];
    for (size_t n = 0; n < W; ++n) index_raw[t * 2 * W + W + n] += l.index_bias[place * W + n];
    for (int h = 0; h < l.heads; ++h) {
      float* head = q + t * HK + h * K;
      normalise(head, nullptr, l.head_width, l.norm_eps, head);
      turn(head, l.head_width, c, s, l.pairs, 1.f);
    }
    for (size_t i = 0; i < I; ++i) {
      float* head = index_q + (t * I + i) * J;
      turn(head, l.index_width, c, s, l.pairs, 1.f);
      hadamard(head, l.index_width, orthonormal);
      index_w[t * I + i] *= share;
    }
  }
}

// Heads o [T, H, K] back to the streams, and how the experts begin: after [T, M, D], x [T, D], links of the next write.
inline void cross(int threads, const Layer& l, int T, const float* streams, const float* o, const float* links,
                  const float* cosine, const float* sine, float* after, float* x, float* next) {
  const int M = l.streams, D = l.width, K = l.head_width, HK = l.heads * K, low = l.groups * l.rank, N = HK / l.groups;
  std::vector<float> turned(o, o + size_t(T) * HK), narrow(size_t(T) * low), y(size_t(T) * D);
  for (int t = 0; t < T; ++t)
    for (int h = 0; h < l.heads; ++h)
      turn(turned.data() + size_t(t) * HK + h * K, K, cosine + t * l.pairs, sine + t * l.pairs, l.pairs, -1.f);
  std::vector<Map> maps;
  for (int g = 0; g < l.groups; ++g)
    maps.push_back({l.wo_a + size_t(g) * l.rank * N, l.rank, N, turned.data() + g * N, size_t(HK),
                    narrow.data() + g * l.rank, size_t(low)});
  run_maps(threads, T, maps);
  run_maps(threads, T, {{l.wo_b, D, low, narrow.data(), size_t(low), y.data(), size_t(D)}});
  for (int t = 0; t < T; ++t)
    write_streams(streams + size_t(t) * M * D, y.data() + size_t(t) * D, links + t * link_size(M), M, D, 0, D,
                  after + size_t(t) * M * D);
  begin(threads, T, M, D, l.iterations, l.eps, l.norm_eps, after, l.ffn_fn, l.ffn_base, l.ffn_scale, l.ffn_gain, x, next);
}

// One expert of one token: which matrices, whose token, and where its hidden numbers begin among that token's.
struct Chosen {
  const float *w1, *w3;
  int token, at;
  float share;
};

// Experts of x [T, D], chosen here or given [T, A], and their write: out [T, M, D]. Tokens that share an expert pass one
// after the other while a few rows of it are in the nearest cache; a token's sums stay in the order of its own choices.
inline void mix(int threads, const Layer& l, int T, const float* streams, const float* x, const float* links,
                const int64_t* given, float* out) {
  const int M = l.streams, D = l.width, A = l.chosen, F = l.inner, S = l.shared_inner, inner = A * F + S;
  std::vector<float> scores(size_t(T) * l.experts), shares(size_t(T) * A), hidden(size_t(T) * inner), y(size_t(T) * D);
  std::vector<int64_t> experts(size_t(T) * A);
  if (given) std::copy(given, given + size_t(T) * A, experts.begin());
  run_maps(threads, T, {{l.gate, l.experts, D, x, size_t(D), scores.data(), size_t(l.experts)}});
  std::vector<Chosen> routed, common;
  for (int t = 0; t < T; ++t) {
    choose(l, given != nullptr, scores.data() + size_t(t) * l.experts, experts.data() + size_t(t) * A,
           shares.data() + size_t(t) * A);
    for (int a = 0; a < A; ++a) {
      const size_t at = size_t(experts[size_t(t) * A + a]) * F * D;
      routed.push_back({l.w1 + at, l.w3 + at, t, a * F, shares[size_t(t) * A + a]});
    }
    common.push_back({l.s1, l.s3, t, A * F, 1.f});
  }
  std::stable_sort(routed.begin(), routed.end(), [](const Chosen& a, const Chosen& b) { return a.w1 < b.w1; });
  std::vector<size_t> begins;  // of the tokens of one expert
  for (size_t i = 0; i < routed.size(); ++i)
    if (!i || routed[i].w1 != routed[i - 1].w1) begins.push_back(i);
  begins.push_back(routed.size());
  const int each = rows_of_item(2 * D), parts = items_of(F, 2 * D), apart = int(begins.size() - 1) * parts;
  share(threads, apart + items_of(S, 2 * D), [&](int item) {
    const bool own = item < apart;
    const Chosen* from = own ? routed.data() + begins[item / parts] : common.data();
    const Chosen* to = own ? routed.data() + begins[item / parts + 1] : common.data() + T;
    const int lo = (own ? item % parts : item - apart) * each, hi = std::min(lo + each, own ? F : S);
    for (int f = lo; f < hi; f += 4)
      for (const Chosen* c = from; c != to; ++c)
        into_expert(c->w1, c->w3, x + size_t(c->token) * D, D, l.limit, c->share, f, std::min(f + 4, hi),
                    hidden.data() + size_t(c->token) * inner + c->at);
  });
  const int wide = std::max(kLanes, rows_of_item(inner) / kLanes * kLanes);
  share(threads, (D + wide - 1) / wide, [&](int item) {
    const int lo = item * wide, hi = std::min(lo + wide, D);
    for (int d = lo; d < hi; d += 4)
      for (int t = 0; t < T; ++t) {
        float* to = y.data() + size_t(t) * D;
        const float* from = hidden.data() + size_t(t) * inner;
        const int end = std::min(d + 4, hi);
        for (int a = 0; a < A; ++a)
          out_of_expert(l.w2 + size_t(experts[size_t(t) * A + a]) * D * F, from + a * F, F, d, end, to);
        out_of_expert(l.s2, from + A * F, S, d, end, to);
      }
    for (int t = 0; t < T; ++t)
      write_streams(streams + size_t(t) * M * D, y.data() + size_t(t) * D, links + t * link_size(M), M, D, lo, hi,
                    out + size_t(t) * M * D);
  });
}

// Logits [T, V] of streams [T, M, D]: merged, normalised, multiplied.
inline void head_of(int threads, int T, int M, int D, int V, float eps, float norm_eps, const float* streams,
                    const float* fn, const float* base, const float* scale, const float* gain, const float* head,
                    float* logits) {
  std::vector<float> pre(size_t(T) * M), x(size_t(T) * D);
  run_maps(threads, T, {{fn, M, M * D, streams, size_t(M) * D, pre.data(), size_t(M)}});
  for (int t = 0; t < T; ++t) {
    const float* own = streams + size_t(t) * M * D;
    const float rho = inverse_rms(own, M * D, norm_eps);
    for (int j = 0; j < M; ++j) pre[t * M + j] = logistic(pre[t * M + j] * rho * scale[0] + base[j]) + eps;
    read_streams(own, pre.data() + t * M, M, D, x.data() + size_t(t) * D);
    normalise(x.data() + size_t(t) * D, gain, D, norm_eps, x.data() + size_t(t) * D);
  }
  run_maps(threads, T, {{head, V, D, x.data(), size_t(D), logits, size_t(V)}});
}

// Entries first .. first + groups - 1 into out [groups, width], from raw rows of their tokens: values, then scores, each
// `width` wide, twice that with `overlap`, when a group reads the second half of its own rows and the first half of those
// before it (`skipped` groups before the first are there to be read alone). Each entry is normalised, turned by its first
// token's position times `frequencies` [pairs], and transformed by Hadamard if `transformed`. At most 256 rows a group.
inline void close_entries(int groups, int ratio, int overlap, int skipped, int width, int pairs, int transformed,
                       int64_t first, float eps, const float* rows, const float* gain, const double* frequencies,
                       float* out) {
  const size_t apart = size_t(2) * width * (overlap ? 2 : 1);
  std::vector<float> cosine(pairs), sine(pairs);
  for (int g = 0; g < groups; ++g, out += width) {
    const int begin = (g + skipped) * ratio, low = overlap ? std::max(begin - ratio, 0) : begin;
    const int count = begin + ratio - low;
    int shift[kMostRows];
    for (int r = 0; r < count; ++r) shift[r] = overlap && low + r >= begin ? width : 0;
    pool_group(rows + low * apart, shift, count, width, apart, out);
    normalise(out, gain, width, eps, out);
    for (int p = 0; p < pairs; ++p) {
      const double angle = double((first + g) * ratio) * frequencies[p];
      cosine[p] = float(std::cos(angle)), sine[p] = float(std::sin(angle));
    }
    turn(out, width, cosine.data(), sine.data(), pairs, 1.f);
    if (transformed) hadamard(out, width, 1.f / std::sqrt(float(width)));
  }
}

// out [T, M, D] = streams + g value, with both [T, (M + 1) D] keys [M, D], then value [D], of each token, and
// g = sigmoid(sgn(s) sqrt(max(|s|, 1e-6))), s the product of a stream and its key, both normalised, over sqrt(D).
inline void recall(int T, int M, int D, float eps, const float* streams, const float* both, const float* q_gain,
                   const float* k_gain, float* out) {
  for (int t = 0; t < T; ++t, both += size_t(M + 1) * D)
    for (int m = 0; m < M; ++m) {
      const float *q = streams + (size_t(t) * M + m) * D, *k = both + size_t(m) * D, *value = both + size_t(M) * D;
      const float *qg = q_gain + size_t(m) * D, *kg = k_gain + size_t(m) * D;
      Lanes total = all(0.f);
      int d = 0;
      for (; d + kLanes <= D; d += kLanes)
        total = fma(load(q + d) * load(qg + d), load(k + d) * load(kg + d), total);
      float s = sum(total);
      for (; d < D; ++d) s = __builtin_fmaf(q[d] * qg[d], k[d] * kg[d], s);
      s *= inverse_rms(q, D, eps) * inverse_rms(k, D, eps) / std::sqrt(float(D));
      const float size = std::sqrt(std::max(std::fabs(s), 1e-6f));
      const float gate = logistic(s > 0.f ? size : s < 0.f ? -size : 0.f);
      float* to = out + (size_t(t) * M + m) * D;
      std::copy(q, q + D, to);
      add_scaled(gate, value, D, to);
    }
}

}  // namespace octavo
