// What stands between products, on panels: norms, rotations, Hadamard's transform, activations and hyper-connections of
// many tokens at a time. `V` is the number of registers of a panel.

#pragma once

#include "../step/layer.h"
#include "panels.h"

namespace octavo {

OCTAVO_INLINE Lanes root(Lanes v) {
#ifdef __AVX512F__
  return _mm512_sqrt_ps(v);
#else
  return _mm256_sqrt_ps(v);
#endif
}

OCTAVO_INLINE Lanes logistic(Lanes v) { return all(1.f) / (all(1.f) + exponential(all(0.f) - v)); }

// x = x / RMS(x), times the gain unless that is null, of n channels.
inline void normalise_panel(float* x, const float* gain, int n, int V, float eps) {
  for (int v = 0; v < V; ++v) {
    float* own = x + v * kLanes;
    Lanes total[4] = {all(0.f), all(0.f), all(0.f), all(0.f)};
    for (int c = 0; c < n; ++c) {
      const Lanes value = load(own + size_t(c) * kPanel);
      total[c & 3] = fma(value, value, total[c & 3]);
    }
    const Lanes mean = ((total[0] + total[1]) + (total[2] + total[3])) / all(float(n));
    const Lanes scale = all(1.f) / root(mean + all(eps));
    for (int c = 0; c < n; ++c) {
      float* at = own + size_t(c) * kPanel;
      store(at, load(at) * scale * (gain ? all(gain[c]) : all(1.f)));
    }
  }
}

// Turns the last 2 * pairs of n channels: pair i by the angles of cosine[i], sine[i] [pairs, kPanel]; sign -1 back.
inline void turn_panel(float* x, int n, const float* cosine, const float* sine, int pairs, int V, float sign) {
  float* last = x + size_t(n - 2 * pairs) * kPanel;
  for (int p = 0; p < pairs; ++p)
    for (int v = 0; v < V; ++v) {
      const size_t at = size_t(p) * kPanel + v * kLanes, even_at = at + size_t(p) * kPanel;
      const Lanes even = load(last + even_at), odd = load(last + even_at + kPanel);
      const Lanes c = load(cosine + at), s = load(sine + at) * all(sign);
      store(last + even_at, even * c - odd * s);
      store(last + even_at + kPanel, even * s + odd * c);
    }
}

// The Walsh-Hadamard transform of n channels (a power of two), times `scale`.
inline void hadamard_panel(float* x, int n, int V, float scale) {
  for (int span = 1; span < n; span *= 2) {
    const Lanes factor = all(2 * span >= n ? scale : 1.f);
    for (int begin = 0; begin < n; begin += 2 * span)
      for (int c = begin; c < begin + span; ++c)
        for (int v = 0; v < V; ++v) {
          float *low = x + size_t(c) * kPanel + v * kLanes, *high = low + size_t(span) * kPanel;
          const Lanes a = load(low), b = load(high);
          store(low, (a + b) * factor);
          store(high, (a - b) * factor);
        }
  }
}

// Column steps with row steps between, as `sinkhorn`, of matrices c [M * M, kPanel]; `factors` [2 * M, kPanel].
inline void sinkhorn_panel(float* c, int M, int iterations, int V, float eps, float* factors) {
  for (int v = 0; v < V; ++v) {
    float *own = c + v * kLanes, *by_row = factors + v * kLanes, *by_column = by_row + size_t(M) * kPanel;
    for (int i = 0; i < 2 * M; ++i) store(by_row + size_t(i) * kPanel, all(1.f));
    auto divide = [&](int first, int stride, const float* others, float* factor) {
      Lanes total = all(0.f);
      for (int j = 0; j < M; ++j)
        total = fma(load(own + size_t(first + j * stride) * kPanel), load(others + size_t(j) * kPanel), total);
      const Lanes f = load(factor);
      store(factor, f / fma(f, total, all(eps)));
    };
    for (int step = 0; step < iterations; ++step) {
      for (int i = 0; step && i < M; ++i) divide(i * M, 1, by_column, by_row + size_t(i) * kPanel);
      for (int j = 0; j < M; ++j) divide(j, M, by_row, by_column + size_t(j) * kPanel);
    }
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < M; ++j) {
        float* at = own + size_t(i * M + j) * kPanel;
        store(at, load(at) * load(by_row + size_t(i) * kPanel) * load(by_column + size_t(j) * kPanel));
      }
  }
}

// pre [M], post [M], comb [M, M] in the place of the raw products m [M * (2 + M), kPanel] of streams h [width, kPanel].
inline void gates_panel(float* m, const float* h, int width, int M, const float* base, const float* scale,
                        int iterations, int V, float eps, float norm_eps, float* factors) {
  for (int v = 0; v < V; ++v) {
    Lanes square[4] = {all(0.f), all(0.f), all(0.f), all(0.f)};
    for (int c = 0; c < width; ++c) {
      const Lanes value = load(h + size_t(c) * kPanel + v * kLanes);
      square[c & 3] = fma(value, value, square[c & 3]);
    }
    const Lanes mean = ((square[0] + square[1]) + (square[2] + square[3])) / all(float(width));
    const Lanes rho = all(1.f) / root(mean + all(norm_eps));
    for (int o = 0; o < M * (2 + M); ++o) {
      float* at = m + size_t(o) * kPanel + v * kLanes;
      const int kind = std::min(o / M, 2);
      const Lanes value = fma(load(at), rho * all(scale[kind]), all(base[o]));
      store(at, kind == 2 ? value : kind ? all(2.f) * logistic(value) : logistic(value) + all(eps));
    }
    for (int i = 0; i < M; ++i) {
      float* row = m + size_t(2 + i) * M * kPanel + v * kLanes;
      Lanes top = load(row), total = all(0.f);
      for (int j = 1; j < M; ++j) top = larger(top, load(row + size_t(j) * kPanel));
      for (int j = 0; j < M; ++j) {
        const Lanes e = exponential(load(row + size_t(j) * kPanel) - top);
        store(row + size_t(j) * kPanel, e);
        total = total + e;
      }
      for (int j = 0; j < M; ++j) {
        float* at = row + size_t(j) * kPanel;
        store(at, load(at) / total + all(eps));
      }
    }
  }
  sinkhorn_panel(m + size_t(2) * M * kPanel, M, iterations, V, eps, factors);
}

// x [D, kPanel] = sum_j pre[j] h_j, for pre [M, kPanel] and streams h [M * D, kPanel].
inline void read_panel(const float* h, const float* pre, int M, int D, int V, float* x) {
  for (int v = 0; v < V; ++v)
    for (int d = 0; d < D; ++d) {
      const size_t at = size_t(d) * kPanel + v * kLanes;
      Lanes total = load(pre + v * kLanes) * load(h + at);
      for (int j = 1; j < M; ++j)
        total = fma(load(pre + size_t(j) * kPanel + v * kLanes), load(h + size_t(j) * D * kPanel + at), total);
      store(x + at, total);
    }
}

constexpr int kMostStreams = 8;

// Streams h [M * D, kPanel] in place: h'_k = post[k] y + sum_j comb[j, k] h_j; link [M + M * M, kPanel].
template <int M>
void write_panel(float* h, const float* y, const float* link, int D, int V) {
  for (int v = 0; v < V; ++v) {
    Lanes factor[M + M * M];
    for (int i = 0; i < M + M * M; ++i) factor[i] = load(link + size_t(i) * kPanel + v * kLanes);
    for (int d = 0; d < D; ++d) {
      const size_t at = size_t(d) * kPanel + v * kLanes;
      Lanes own[M];
      for (int j = 0; j < M; ++j) own[j] = load(h + size_t(j) * D * kPanel + at);
      const Lanes given = load(y + at);
      for (int k = 0; k < M; ++k) {
        Lanes total = factor[k] * given;
        for (int j = 0; j < M; ++j) total = fma(factor[M + j * M + k], own[j], total);
        store(h + size_t(k) * D * kPanel + at, total);
      }
    }
  }
}

// The same of one token's rows: streams [M, D], y [D] and link [M + M * M].
template <int M>
void write_rows(float* streams, const float* y, const float* link, int D) {
  Lanes factor[M + M * M];
  for (int i = 0; i < M + M * M; ++i) factor[i] = all(link[i]);
  int d = 0;
  for (; d + kLanes <= D; d += kLanes) {
    Lanes own[M];
    for (int j = 0; j < M; ++j) own[j] = load(streams + size_t(j) * D + d);
    const Lanes given = load(y + d);
    for (int k = 0; k < M; ++k) {
      Lanes total = factor[k] * given;
      for (int j = 0; j < M; ++j) total = fma(factor[M + j * M + k], own[j], total);
      store(streams + size_t(k) * D + d, total);
    }
  }
  for (; d < D; ++d) {
    float own[M];
    for (int j = 0; j < M; ++j) own[j] = streams[size_t(j) * D + d];
    for (int k = 0; k < M; ++k) {
      float total = link[k] * y[d];
      for (int j = 0; j < M; ++j) total = __builtin_fmaf(link[M + j * M + k], own[j], total);
      streams[size_t(k) * D + d] = total;
    }
  }
}

using WritePanel = void (*)(float*, const float*, const float*, int, int);
using WriteRows = void (*)(float*, const float*, const float*, int);
constexpr WritePanel kWritePanel[kMostStreams + 1] = {
    nullptr, write_panel<1>, write_panel<2>, write_panel<3>, write_panel<4>,
    write_panel<5>, write_panel<6>, write_panel<7>, write_panel<8>};
constexpr WriteRows kWriteRows[kMostStreams + 1] = {
    nullptr, write_rows<1>, write_rows<2>, write_rows<3>, write_rows<4>,
    write_rows<5>, write_rows<6>, write_rows<7>, write_rows<8>};

}  // namespace octavo
