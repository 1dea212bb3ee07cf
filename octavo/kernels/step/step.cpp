// One step of a handful of tokens, in parts that Python puts together: everything of a layer before attention, between
// attention and experts, and behind them; attention itself; the head; and the single operations that models need which
// do not hold all their weights.
//
// Decoding reads every weight once, so its bound is memory; what stands between two products must not cost more than
// they do. A part is one call, and its products are shared out among threads that are awake already (team.h).
//
// All numbers are FP32, rows lie one behind the other. Built as a plain shared library, once for each set of
// instructions; Python calls it through ctypes, which lets other threads run.

#include "attend.h"
#include "parts.h"
#include "stored.h"
#include "together.h"
#include "whole.h"

using namespace octavo;

extern "C" {

// Lets other libraries share out loops among the same threads.
void octavo_step_run(int threads, int items, Item item, void* context) { Team::run(threads, items, item, context); }

// See `enter` in parts.h; the others likewise.
void octavo_step_enter(int threads, const Layer* layer, int T, int64_t first, const float* streams, const float* cosine,
                       const float* sine, float* links, float* q, float* kv, float* raw, float* index_q, float* index_w,
                       float* index_raw) {
  const auto number_of = [first](int t) { return first + t; };
  enter(threads, *layer, T, number_of, streams, cosine, sine, links, q, kv, raw, index_q, index_w, index_raw);
}

void octavo_step_cross(int threads, const Layer* layer, int T, const float* streams, const float* o, const float* links,
                       const float* cosine, const float* sine, float* after, float* x, float* next) {
  cross(threads, *layer, T, streams, o, links, cosine, sine, after, x, next);
}

void octavo_step_mix(int threads, const Layer* layer, int T, const float* streams, const float* x, const float* links,
                     const int64_t* given, float* out) {
  mix(threads, *layer, T, streams, x, links, given, out);
}

void octavo_step_entry(int groups, int ratio, int overlap, int skipped, int width, int pairs, int transformed,
                       int64_t first, float eps, const float* rows, const float* gain, const double* frequencies,
                       float* out) {
  close_entries(groups, ratio, overlap, skipped, width, pairs, transformed, first, eps, rows, gain, frequencies, out);
}

void octavo_step_attend(int threads, const Attention* call, const float* q, float* out, float* mass) {
  attend(threads, *call, q, out, mass);
}

void octavo_step_recall(int T, int M, int D, float eps, const float* streams, const float* both, const float* q_gain,
                        const float* k_gain, float* out) {
  recall(T, M, D, eps, streams, both, q_gain, k_gain, out);
}

// Whole layers of a step over a sequence in the cache, by halves: see whole.h.
void octavo_step_halves(const Step* const* layers, int begin, int end) { halves(layers, begin, end); }

// One token of each of several sequences, from ids to logits: see together.h.
void octavo_step_together(const Together* step) { together(*step); }

// out [T, M, D] of streams, y [T, D] and links: what `octavo_step_mix` does behind its experts.
void octavo_step_write(int T, int M, int D, const float* streams, const float* y, const float* links, float* out) {
  for (int t = 0; t < T; ++t)
    write_streams(streams + size_t(t) * M * D, y + size_t(t) * D, links + t * link_size(M), M, D, 0, D,
                  out + size_t(t) * M * D);
}

// Logits [T, V] of streams [T, M, D]: merged, normalised, multiplied.
void octavo_step_head(int threads, int T, int M, int D, int V, float eps, float norm_eps, const float* streams,
                      const float* fn, const float* base, const float* scale, const float* gain, const float* head,
                      float* logits) {
  head_of(threads, T, M, D, V, eps, norm_eps, streams, fn, base, scale, gain, head, logits);
}

// Results of `count` weights [rows[i], width] side by side, [T, sum of rows], of x [T, width].
void octavo_step_products(int threads, int T, int width, int count, const float* x, const float* const* weights,
                          const int64_t* rows, float* out) {
  size_t apart = 0, at = 0;
  for (int i = 0; i < count; ++i) apart += rows[i];
  std::vector<Map> maps;
  for (int i = 0; i < count; at += rows[i++])
    maps.push_back({weights[i], int(rows[i]), width, x, size_t(width), out + at, apart});
  run_maps(threads, T, maps);
}

// Weight [groups * rank, width]: rows g rank .. read group g of x [T, groups, width]; out [T, groups * rank].
void octavo_step_grouped(int threads, int T, int groups, int rank, int width, const float* x, const float* weight,
                         float* out) {
  std::vector<Map> maps;
  for (int g = 0; g < groups; ++g)
    maps.push_back({weight + size_t(g) * rank * width, rank, width, x + size_t(g) * width, size_t(groups) * width,
                    out + g * rank, size_t(groups) * rank});
  run_maps(threads, T, maps);
}

// Scores [T, X] of raw products in place, experts [T, A] (kept where `given`) and their shares.
void octavo_step_choose(int T, int X, int A, int normalised, float scale, const float* bias, int given, float* scores,
                        int64_t* experts, float* shares) {
  Layer l{};
  l.experts = X, l.chosen = A, l.normalised = normalised, l.scale = scale, l.bias = bias;
  for (int t = 0; t < T; ++t) choose(l, given, scores + size_t(t) * X, experts + size_t(t) * A, shares + size_t(t) * A);
}

// Adds one expert's output for one token x [D], weighted by `part`, to out [D].
void octavo_step_expert(int threads, int D, int F, float limit, float part, const float* x, const float* w1,
                        const float* w3, const float* w2, float* out) {
  std::vector<float> hidden(F);
  const int each = rows_of_item(2 * D), wide = rows_of_item(F);
  share(threads, items_of(F, 2 * D), [&](int item) {
    into_expert(w1, w3, x, D, limit, part, item * each, std::min((item + 1) * each, F), hidden.data());
  });
  share(threads, items_of(D, F), [&](int item) {
    out_of_expert(w2, hidden.data(), F, item * wide, std::min((item + 1) * wide, D), out);
  });
}

// The same, to the bit, of FP4 weights: pairs of codes [rows, width / 2], scale bytes [rows, width / 32]; `values`
// [256, 2] and `factors` [256] say what they stand for.
void octavo_step_expert_fp4(int threads, int D, int F, float limit, float part, const float* x, const uint8_t* c1,
                            const uint8_t* f1, const uint8_t* c3, const uint8_t* f3, const uint8_t* c2,
                            const uint8_t* f2, const float* values, const float* factors, float* out) {
  std::vector<float> hidden(F);
  const Codes w1{c1, f1, D, values, factors}, w3{c3, f3, D, values, factors}, w2{c2, f2, F, values, factors};
  const int each = rows_of_item(2 * D), wide = rows_of_item(F);
  share(threads, items_of(F, 2 * D), [&](int item) {
    std::vector<float> gate(size_t(4) * D), up(size_t(4) * D);
    for (int f = item * each; f < std::min((item + 1) * each, F); f += 4) {
      const int n = std::min(4, F - f);
      w1.unpack(f, n, gate.data());
      w3.unpack(f, n, up.data());
      into_expert(gate.data(), up.data(), x, D, limit, part, 0, n, hidden.data() + f);
    }
  });
  share(threads, items_of(D, F), [&](int item) {
    std::vector<float> rows(size_t(4) * F);
    for (int d = item * wide; d < std::min((item + 1) * wide, D); d += 4) {
      const int n = std::min(4, D - d);
      w2.unpack(d, n, rows.data());
      out_of_expert(rows.data(), hidden.data(), F, 0, n, out + d);
    }
  });
}

}
