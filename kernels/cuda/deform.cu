// Fetching a mini-batch of images that are deformed at random: `deform` of the contract. A block for each image.
#include "random.cuh"
#include "rows.cuh"

// A word as a number from -1 to 1.
__device__ __forceinline__ double centred(u32 word) { return word * (1.0 / 2147483648.0) - 1.0; }

// The elements of S^-1 K^-1 R^-1 by rows, for (x, y), and the translation of x and y.
__device__ void draw_affine_map(const Words& first, const Words& second, const double* ranges, double* map) {
  const double angle = ranges[0] * centred(first.word[0]), shear = ranges[2] * centred(first.word[3]);
  const double in_x = 1 + ranges[1] * centred(first.word[1]), in_y = 1 + ranges[1] * centred(first.word[2]);
  double sine = 1, cosine = 1;
  for (int k = 12; k > 0; k--) {  // Taylor's series: the same in all libraries
    sine = 1 - angle * angle / (2.0 * k * (2.0 * k + 1)) * sine;
    cosine = 1 - angle * angle / (2.0 * k * (2.0 * k - 1)) * cosine;
  }
  sine *= angle;
  map[0] = (cosine + shear * sine) / in_x, map[1] = (sine - shear * cosine) / in_x;
  map[2] = -sine / in_y, map[3] = cosine / in_y;
  map[4] = ranges[3] * centred(second.word[0]), map[5] = ranges[3] * centred(second.word[1]);
}

// Shared memory: the affine map, 6 doubles; the nodes, (2, nodes_y, nodes_x); and what they are in each row of pixels,
// (h, 2, nodes_x). Index 0 is for x.
template <class Source>
__device__ void deform(const Source* x, const long long* order, long long ring, long long first, REAL scale, REAL shift,
                       const double* ranges, const float* row_basis, int nodes_y, int h, const float* column_basis,
                       int nodes_x, int w, const u32* stream, REAL* out, unsigned char* shared) {
  const long long place = first + blockIdx.x, sample = order[place];
  const Source* image = x + source_row(order, ring, place) * h * w;
  double* map = (double*)shared;
  float *nodes = (float*)(map + 6), *in_rows = nodes + 2 * nodes_y * nodes_x;
  const int n_nodes = 2 * nodes_y * nodes_x;

  if (threadIdx.x == 0)
    draw_affine_map(philox(0, (u32)sample, 0xffffffffu, stream[2], stream[0], stream[1]),
                    philox(1, (u32)sample, 0xffffffffu, stream[2], stream[0], stream[1]), ranges, map);
  const float unit = (float)(ranges[4] / 65535);
  for (int group = threadIdx.x; 4 * group < n_nodes; group += blockDim.x) {
    const Words words = philox(group + 2, (u32)sample, 0xffffffffu, stream[2], stream[0], stream[1]);
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (4 * group + i < n_nodes)
        nodes[4 * group + i] = (float)((int)(words.word[i] & 0xffff) + (int)(words.word[i] >> 16) - 65535) * unit;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < h * 2 * nodes_x; e += blockDim.x) {
    const int i = e / (2 * nodes_x), axis = e / nodes_x % 2, column = e % nodes_x;
    float sum = 0;
    for (int n = 0; n < nodes_y; n++) sum += row_basis[n * h + i] * nodes[(axis * nodes_y + n) * nodes_x + column];
    in_rows[e] = sum;
  }
  __syncthreads();

  for (int e = threadIdx.x; e < h * w; e += blockDim.x) {
    const int i = e / w, j = e - i * w;
    const double across = j - (w - 1) / 2.0 - map[4], down = i - (h - 1) / 2.0 - map[5];
    float bent_x = 0, bent_y = 0;
    for (int n = 0; n < nodes_x; n++) {
      bent_x += in_rows[(2 * i) * nodes_x + n] * column_basis[n * w + j];
      bent_y += in_rows[(2 * i + 1) * nodes_x + n] * column_basis[n * w + j];
    }
    const float to_x = (float)(map[0] * across) + (float)(map[1] * down + (w - 1) / 2.0) + bent_x;
    const float to_y = (float)(map[2] * across) + (float)(map[3] * down + (h - 1) / 2.0) + bent_y;
    const float px = fminf(fmaxf(to_x, 0), (float)(w - 1)), py = fminf(fmaxf(to_y, 0), (float)(h - 1));
    const int left = (int)px, right = left + (left + 1 < w), top = (int)py, bottom = top + (top + 1 < h);
    const REAL right_of = (REAL)(px - left), below = (REAL)(py - top);
    const REAL a = (REAL)image[top * w + left], b = (REAL)image[top * w + right];
    const REAL c = (REAL)image[bottom * w + left], d = (REAL)image[bottom * w + right];
    const REAL upper = a + right_of * (b - a), lower = c + right_of * (d - c);
    out[(long long)blockIdx.x * h * w + e] = (upper + below * (lower - upper)) * scale + shift;
  }
}

#define DEFORM(NAME, SOURCE)                                                                                           \
  extern "C" __global__ void NAME(const SOURCE* x, const long long* order, long long ring, const long long* counter,  \
                                  long long step, long long batch_size, double scale, double shift,                   \
                                  const double* ranges, const float* row_basis, long long nodes_y, long long h,       \
                                  const float* column_basis, long long nodes_x, long long w, const u32* stream,       \
                                  REAL* out) {                                                                        \
    SHARED_MEMORY(shared);                                                                                            \
    deform<SOURCE>(x, order, ring, index_of(counter, step) * batch_size, (REAL)scale, (REAL)shift, ranges, row_basis, \
                   (int)nodes_y, (int)h, column_basis, (int)nodes_x, (int)w, stream, out, shared);                    \
  }
DEFORM(deform_uint8, u8)
DEFORM(deform_float32, float)
DEFORM(deform_float64, double)
