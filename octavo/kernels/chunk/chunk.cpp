// A chunk of many tokens through the parts of a layer around attention, in parts that Python puts together: everything
// before attention, between attention and experts, and behind them.
//
// Reading is bound by arithmetic. Products take weights where they lie, and what stands between two products is done on
// the panels (panels.h) that one gives and the other takes, while they are in the second cache: memory sees the
// streams, what attention reads and writes, and little else.
//
// All numbers are FP32, rows lie one behind the other. Built as a plain shared library, once for each set of
// instructions; Python calls it through ctypes, which lets other threads run. `run` is `octavo_step_run`, whose threads
// share out tiles of tokens. No result depends on their number.

// Tables and scratch memory of one library must not be another's that has the same names: two can be loaded at once.
#pragma GCC visibility push(hidden)
#include "experts.h"
#include "recall.h"
#pragma GCC visibility pop

#define OCTAVO_GIVEN __attribute__((visibility("default")))

using namespace octavo;

extern "C" {

// See `enter` in ../step/parts.h for what is given; the others likewise.
OCTAVO_GIVEN void octavo_chunk_enter(int threads, Run run, const Layer* layer, int T, int64_t first,
                                     const float* streams, const float* cosine, const float* sine, float* links,
                                     float* q, float* kv, float* raw, float* index_q, float* index_w,
                                     float* index_raw) {
  const Layer& l = *layer;
  const size_t MD = size_t(l.streams) * l.width, HK = size_t(l.heads) * l.head_width, I = l.index_heads;
  Threads{threads, run}.tiles(T, [&](int t, const Tile& tile) {
    enter_tile(l, tile, first + t, streams + t * MD, cosine + size_t(t) * l.pairs, sine + size_t(t) * l.pairs,
               {links + t * link_size(l.streams), q + t * HK, kv + size_t(t) * l.head_width,
                raw + size_t(t) * 2 * l.raw, index_q + t * I * l.index_width, index_w + t * I,
                index_raw + size_t(t) * 2 * l.index_raw});
  });
}

OCTAVO_GIVEN void octavo_chunk_cross(int threads, Run run, const Layer* layer, int T, const float* streams,
                                     const float* o, const float* links, const float* cosine, const float* sine,
                                     float* after, float* x, float* next) {
  const Layer& l = *layer;
  const size_t MD = size_t(l.streams) * l.width, HK = size_t(l.heads) * l.head_width, link = link_size(l.streams);
  Threads{threads, run}.tiles(T, [&](int t, const Tile& tile) {
    cross_tile(l, tile, streams + t * MD, o + t * HK, links + t * link, cosine + size_t(t) * l.pairs,
               sine + size_t(t) * l.pairs, after + t * MD, x + size_t(t) * l.width, next + t * link);
  });
}

// Writes over the streams.
OCTAVO_GIVEN void octavo_chunk_mix(int threads, Run run, const Layer* layer, int T, float* streams, const float* x,
                                   const float* links, const int64_t* given) {
  mix_tokens({threads, run}, *layer, T, streams, x, links, given);
}

// What `octavo_chunk_mix` does behind its experts, with y [T, D].
OCTAVO_GIVEN void octavo_chunk_write(int threads, Run run, int T, int M, int D, float* streams, const float* y,
                                     const float* links) {
  Threads{threads, run}.tiles(T, [&](int first, const Tile& tile) {
    for (size_t t = first; t < size_t(first) + tile.tokens; ++t)
      kWriteRows[M](streams + t * M * D, y + t * D, links + t * link_size(M), D);
  });
}

// Single operations, with the bits of `octavo_chunk_mix`: hidden numbers of an expert, a product, sums of rows [T, A].
OCTAVO_GIVEN void octavo_chunk_hidden(int threads, Run run, int n, int D, int F, float limit, const float* x,
                                      const int64_t* tokens, const float* shares, const float* w1, const float* w3,
                                      float* hidden) {
  hidden_rows({threads, run}, n, D, F, limit, x, tokens, shares, w1, w3, hidden);
}

OCTAVO_GIVEN void octavo_chunk_linear(int threads, Run run, int T, int N, int O, const float* x, const float* weight,
                                      float* out) {
  linear_rows({threads, run}, T, N, O, x, weight, out);
}

OCTAVO_GIVEN void octavo_chunk_sums(int threads, Run run, int T, int A, int D, const float* rows, const int64_t* place,
                                    float* out) {
  Threads{threads, run}.tiles(T, [&](int first, const Tile& tile) {
    for (int t = first; t < first + tile.tokens; ++t) sum_rows(rows, place + size_t(t) * A, A, D, out + size_t(t) * D);
  });
}

// Streams [T, M, D] and what a memory of rows [T, W] adds to them through weight [(M + 1) * D, W].
OCTAVO_GIVEN void octavo_chunk_recall(int threads, Run run, int T, int M, int D, int W, float eps,
                                      const float* streams, const float* memory, const float* weight,
                                      const float* q_gain, const float* k_gain, float* out) {
  const size_t MD = size_t(M) * D;
  Threads{threads, run}.tiles(T, [&](int t, const Tile& tile) {
    recall_tile(tile, M, D, W, eps, streams + t * MD, memory + size_t(t) * W, weight, q_gain, k_gain, out + t * MD);
  });
}

}
