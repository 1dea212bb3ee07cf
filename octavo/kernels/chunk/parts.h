// The parts of a layer around attention, for many tokens: see chunk.cpp for what each takes and gives.

#pragma once

#include <vector>

#include "lanes.h"

namespace octavo {

// How a loop is shared out among threads: `octavo_step_run`.
using Run = void (*)(int threads, int items, Item item, void* context);

struct Threads {
  int count;
  Run run;
  template <class Work>
  void share(int items, const Work& work) const {
    run(count, items, [](void* context, int item) { (*static_cast<const Work*>(context))(item); },
        const_cast<Work*>(&work));
  }
  template <class Work>
  void tiles(int T, const Work& work) const {  // work(first token, tile)
    share((T + kTile - 1) / kTile, [&](int i) { work(i * kTile, Tile{std::min(kTile, T - i * kTile)}); });
  }
};

// The weights of a hyper-connection's mix and of the norm behind it.
struct Mixed {
  const float *fn, *base, *scale, *gain;
};

// Links [T, M + M * M] of a panel's tokens: a panel of them, and back.
inline void take_links(const float* links, int tokens, int n, float* panel) {
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < n; ++i) panel[size_t(i) * kPanel + t] = links[size_t(t) * n + i];
}

inline void give_links(const float* panel, int tokens, int n, float* links) {
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < n; ++i) links[size_t(t) * n + i] = panel[size_t(i) * kPanel + t];
}

// How a sublayer begins, one panel: x [D, kPanel] normalised, and the links, from streams h [M * D, kPanel]. `m` has
// room for M * (2 + M) + 2 * M channels.
inline void begin_panel(const Layer& l, const Mixed& w, const float* h, int tokens, float* m, float* x, float* links) {
  const int M = l.streams, D = l.width, mixes = M * (2 + M), V = halves(tokens);
  product(w.fn, mixes, M * D, Tile{tokens}, h, 0, m, 0);
  gates_panel(m, h, M * D, M, w.base, w.scale, l.iterations, V, l.eps, l.norm_eps, m + size_t(mixes) * kPanel);
  read_panel(h, m, M, D, V, x);
  normalise_panel(x, w.gain, D, V, l.norm_eps);
  give_links(m + size_t(M) * kPanel, tokens, link_size(M), links);
}

// The tables of a tile's tokens: cosines, then sines, [panels, 2, pairs, kPanel].
inline void take_angles(const float* cosine, const float* sine, int pairs, const Tile& tile, float* angles) {
  for (int p = 0; p < tile.panels(); ++p) {
    float* own = angles + size_t(p) * 2 * pairs * kPanel;
    gather(cosine + size_t(p) * kPanel * pairs, pairs, tile.of(p), pairs, own);
    gather(sine + size_t(p) * kPanel * pairs, pairs, tile.of(p), pairs, own + size_t(pairs) * kPanel);
  }
}

// What one map of a tile's panels becomes before it is given out as rows.
struct After {
  const float* gain = nullptr;  // of the norm
  bool normed = false, turned = false, transformed = false;
  float scale = 1.f;
};

struct MapOut {
  float* to;     // the first token's numbers
  size_t apart;  // numbers from token to token
  const float* const* bias = nullptr;  // rows to add, by token
};

// rows of `weight` times panels x, to rows of the tokens.
inline void give_map(const Layer& l, const float* weight, int rows, int K, const Tile& tile, const float* x,
                     size_t x_apart, const float* angles, const After& after, const MapOut& out, float* made) {
  const size_t apart = size_t(rows) * kPanel;
  product(weight, rows, K, tile, x, x_apart, made, apart);
  for (int p = 0; p < tile.panels(); ++p) {
    float* own = made + p * apart;
    const int V = halves(tile.of(p));
    const float* cosine = angles + size_t(p) * 2 * l.pairs * kPanel;
    if (after.normed) normalise_panel(own, after.gain, rows, V, l.norm_eps);
    if (after.turned) turn_panel(own, rows, cosine, cosine + size_t(l.pairs) * kPanel, l.pairs, V, 1.f);
    if (after.transformed) hadamard_panel(own, rows, V, 1.f / std::sqrt(float(rows)));
    for (int c = 0; after.scale != 1.f && c < rows; ++c)
      for (int v = 0; v < V; ++v) {
        float* at = own + size_t(c) * kPanel + v * kLanes;
        store(at, load(at) * all(after.scale));
      }
    const int first = p * kPanel;
    scatter(own, tile.of(p), rows, out.to + first * out.apart, out.apart, out.bias ? out.bias + first : nullptr);
  }
}

// What `enter` gives of one token: numbers of the first token's rows.
struct Entered {
  float *links, *q, *kv, *raw, *index_q, *index_w, *index_raw;
};

// One tile's panels x [D, kPanel] through the maps around attention.
inline void project_tile(const Layer& l, const Tile& tile, int64_t first, const float* x, const float* angles,
                         float* latent, float* made, const Entered& out) {
  const size_t D = l.width, Q = l.latent, K = l.head_width, R = l.raw, W = l.index_raw, I = l.index_heads;
  const size_t J = l.index_width, x_apart = D * kPanel, latent_apart = Q * kPanel;
  const float* main_bias[kTile];
  const float* index_bias[kTile];
  for (int t = 0; (R || W) && t < tile.tokens; ++t) {
    const size_t place = (first + t) % l.ratio;
    main_bias[t] = l.main_bias + place * R;
    index_bias[t] = W ? l.index_bias + place * W : nullptr;
  }
  auto give = [&](const float* weight, size_t rows, const After& after, const MapOut& to) {
    give_map(l, weight, int(rows), l.width, tile, x, x_apart, angles, after, to, made);
  };
  give(l.wkv, K, {l.kv_gain, true, true}, {out.kv, K});
  if (R) give(l.main_kv, R, {}, {out.raw, 2 * R});
  if (R) give(l.main_gate, R, {}, {out.raw + R, 2 * R, main_bias});
  if (W) give(l.index_kv, W, {}, {out.index_raw, 2 * W});
  if (W) give(l.index_gate, W, {}, {out.index_raw + W, 2 * W, index_bias});
  After scaled;
  scaled.scale = 1.f / std::sqrt(float(I * J));
  if (I) give(l.index_proj, I, scaled, {out.index_w, I});
  product(l.wq_a, l.latent, l.width, tile, x, x_apart, latent, latent_apart);
  for (int p = 0; p < tile.panels(); ++p)
    normalise_panel(latent + p * latent_apart, l.q_gain, l.latent, halves(tile.of(p)), l.norm_eps);
  for (int h = 0; h < l.heads; ++h)
    give_map(l, l.wq_b + h * K * Q, l.head_width, l.latent, tile, latent, latent_apart, angles, {nullptr, true, true},
             {out.q + h * K, l.heads * K}, made);
  for (size_t i = 0; i < I; ++i)
    give_map(l, l.index_q + i * J * Q, l.index_width, l.latent, tile, latent, latent_apart, angles,
             {nullptr, false, true, true}, {out.index_q + i * J, I * J}, made);
}

inline void enter_tile(const Layer& l, const Tile& tile, int64_t first, const float* streams, const float* cosine,
                       const float* sine, const Entered& out) {
  const size_t M = l.streams, D = l.width, mixes = M * (2 + M) + 2 * M, links = link_size(l.streams);
  const size_t widest = std::max({l.raw, l.index_raw, l.head_width, l.index_heads, l.index_width});
  thread_local Scratch scratch;
  const size_t angles = size_t(2) * l.pairs * kTile, panels = (D + l.latent + widest) * kTile;
  float* x = scratch.room(panels + angles + (M * D + mixes) * kPanel);
  float *latent = x + D * kTile, *made = latent + size_t(l.latent) * kTile, *table = made + widest * kTile;
  float *h = table + angles, *m = h + M * D * kPanel;
  for (int p = 0; p < tile.panels(); ++p) {
    const size_t at = size_t(p) * kPanel;
    gather(streams + at * M * D, M * D, tile.of(p), int(M * D), h);
    begin_panel(l, {l.attn_fn, l.attn_base, l.attn_scale, l.attn_gain}, h, tile.of(p), m, x + at * D,
                out.links + at * links);
  }
  take_angles(cosine, sine, l.pairs, tile, table);
  project_tile(l, tile, first, x, table, latent, made, out);
}

// Heads o of a tile, back turned, through both output maps: y [panels, D, kPanel]; `group` has room for one group's
// channels, `low` for those between the maps.
inline void project_back(const Layer& l, const Tile& tile, const float* o, const float* angles, float* group,
                         float* low, float* y) {
  const int K = l.head_width, HK = l.heads * K, N = HK / l.groups, narrow = l.groups * l.rank;
  const size_t low_apart = size_t(narrow) * kPanel;
  for (int g = 0; g < l.groups; ++g) {
    for (int p = 0; p < tile.panels(); ++p) {
      float* own = group + size_t(p) * N * kPanel;
      gather(o + size_t(p) * kPanel * HK + size_t(g) * N, HK, tile.of(p), N, own);
      const float* cosine = angles + size_t(p) * 2 * l.pairs * kPanel;
      for (int h = 0; h < N / K; ++h)
        turn_panel(own + size_t(h) * K * kPanel, K, cosine, cosine + size_t(l.pairs) * kPanel, l.pairs,
                   halves(tile.of(p)), -1.f);
    }
    product(l.wo_a + size_t(g) * l.rank * N, l.rank, N, tile, group, size_t(N) * kPanel,
            low + size_t(g) * l.rank * kPanel, low_apart);
  }
  product(l.wo_b, l.width, narrow, tile, low, low_apart, y, size_t(l.width) * kPanel);
}

inline void cross_tile(const Layer& l, const Tile& tile, const float* streams, const float* o, const float* links,
                       const float* cosine, const float* sine, float* after, float* x, float* next) {
  const size_t M = l.streams, D = l.width, mixes = M * (2 + M) + 2 * M, link = link_size(l.streams);
  const size_t N = size_t(l.heads) * l.head_width / l.groups, narrow = size_t(l.groups) * l.rank;
  thread_local Scratch scratch;
  const size_t angles = size_t(2) * l.pairs * kTile;
  float* y = scratch.room((D + N + narrow) * kTile + angles + (M * D + D + mixes + link) * kPanel);
  float *group = y + D * kTile, *low = group + N * kTile, *table = low + narrow * kTile, *h = table + angles;
  float *made = h + M * D * kPanel, *m = made + D * kPanel, *given = m + mixes * kPanel;
  take_angles(cosine, sine, l.pairs, tile, table);
  project_back(l, tile, o, table, group, low, y);
  for (int p = 0; p < tile.panels(); ++p) {
    const size_t at = size_t(p) * kPanel;
    const int tokens = tile.of(p);
    gather(streams + at * M * D, M * D, tokens, int(M * D), h);
    take_links(links + at * link, tokens, int(link), given);
    kWritePanel[M](h, y + at * D, given, l.width, halves(tokens));
    scatter(h, tokens, int(M * D), after + at * M * D, M * D);
    begin_panel(l, {l.ffn_fn, l.ffn_base, l.ffn_scale, l.ffn_gain}, h, tokens, m, made, next + at * link);
    scatter(made, tokens, l.width, x + at * D, D);
  }
}

}  // namespace octavo
