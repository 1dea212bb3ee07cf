// Rows of FP4 weights, unpacked on use into the nearest cache.

#pragma once

#include <cstdint>

#include "vectors.h"

namespace octavo {

struct Codes {
  const uint8_t *codes, *scales;
  int width;
  const float *values, *factors;

  // Rows lo .. lo + n - 1 into out [n, width].
  void unpack(int lo, int n, float* out) const {
    for (int r = lo; r < lo + n; ++r, out += width)
      for (int g = 0; g < width / 32; ++g) {
        const float factor = factors[scales[size_t(r) * (width / 32) + g]];
        const uint8_t* own = codes + size_t(r) * (width / 2) + 16 * g;
        for (int b = 0; b < 16; ++b) {
          out[32 * g + 2 * b] = values[2 * own[b]] * factor;
          out[32 * g + 2 * b + 1] = values[2 * own[b] + 1] * factor;
        }
      }
  }
};

}  // namespace octavo
