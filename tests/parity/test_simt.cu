/* Do the wrappers of the SIMT runtime mean what they mean on a GPU? Against closed forms and binary64 sums, under
 * several orders of lanes, warps and blocks. */
#include "core/half.h"
#include "core/random.h"
#include "tests/parity/simt_test.h"

static const uint64_t seeds[] = {0, 1, 2, 3, 77, 1234567};

KVS_KERNEL(1024, 1) where_kernel(uint32_t *out) {
    uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    kvs_st_global(out + block * (blockDim.x * blockDim.y * blockDim.z) + thread, block << 16 | thread);
}

static void test_indices(void **) {
    dim3 grids[] = {dim3(1), dim3(5), dim3(3, 4, 2)}, blocks[] = {dim3(1), dim3(48), dim3(8, 3, 5), dim3(1024)};
    for (dim3 grid : grids)
        for (dim3 block : blocks) {
            uint32_t blocks_count = grid.x * grid.y * grid.z, threads = block.x * block.y * block.z;
            device_array<uint32_t> out(blocks_count * threads, "out", KVS_SIMT_UNWRITTEN);
            launched(kvs_launch(where_kernel, grid, block, 0, nullptr, out.data));
            for (uint32_t i = 0; i < blocks_count * threads; i++)
                assert_int_equal(out[i], (i / threads) << 16 | i % threads);
        }
}

enum { VALUES = 9 };

KVS_KERNEL(64, 1) collective_kernel(const uint32_t *in, uint32_t *out) {
    uint32_t t = threadIdx.x, x = kvs_ld_global(in + t), *mine = out + VALUES * t;
    kvs_st_global(mine + 0, kvs_shfl(x, (int)(5 * t + 3)));
    kvs_st_global(mine + 1, kvs_shfl_xor(x, 9));
    kvs_st_global(mine + 2, kvs_shfl_down(x, 7));
    kvs_st_global(mine + 3, kvs_ballot((int)(x & 1)));
    kvs_st_global(mine + 4, (uint32_t)kvs_any(x == 42));
    kvs_st_global(mine + 5, (uint32_t)kvs_all(x < 64));
    kvs_st_global(mine + 6, kvs_bit_cast<uint32_t>(kvs_shfl_xor((float)x, 1)));
    kvs_st_global(mine + 7, (uint32_t)kvs_all(x < 32));
    uint32_t sum = x;
    for (int mask = 16; mask > 0; mask /= 2) sum += kvs_shfl_xor(sum, mask);
    kvs_st_global(mine + 8, sum);
}

static void test_collectives(void **) {
    for (uint64_t seed : seeds) {
        kvs_simt_settings()->order_seed = seed;
        device_array<uint32_t> in(64, "in", KVS_SIMT_READ_ONLY), out(64 * VALUES, "out", KVS_SIMT_UNWRITTEN);
        for (uint32_t i = 0; i < 64; i++) in[i] = (i * 29 + 3) % 64;
        launched(kvs_launch(collective_kernel, 1, 64, 0, nullptr, in.data, out.data));
        for (uint32_t t = 0; t < 64; t++) {
            const uint32_t lane = t % 32, warp = t - lane, *x = in.data + warp, *got = out.data + VALUES * t;
            uint32_t ballot = 0, any = 0, all = 1, all_low = 1, sum = 0;
            for (uint32_t l = 0; l < 32; l++) {
                ballot |= (x[l] & 1) << l;
                any |= x[l] == 42;
                all &= x[l] < 64;
                all_low &= x[l] < 32;
                sum += x[l];
            }
            assert_int_equal(got[0], x[(5 * t + 3) % 32]);
            assert_int_equal(got[1], x[lane ^ 9]);
            assert_int_equal(got[2], x[lane + 7 < 32 ? lane + 7 : lane]);
            assert_int_equal(got[3], ballot);
            assert_int_equal(got[4], any);
            assert_int_equal(got[5], all);
            assert_true(kvs_bits_float(got[6]) == (float)x[lane ^ 1]);
            assert_int_equal(got[7], all_low);
            assert_int_equal(got[8], sum);
        }
    }
}

/* One warp multiplies A [16][16] by B [16][8], both through shared memory: A by rows, B transposed on the way. */
KVS_KERNEL(32, 1) matrix_kernel(const kvs_u32x4 *a_rows, const kvs_u32x4 *b_rows, float *d) {
    uint32_t l = threadIdx.x, a[4], b[4];
    kvs_u32x4 *tile = (kvs_u32x4 *)(void *)KVS_SHARED;
    kvs_st_shared(tile + l, kvs_ld_global(a_rows + l));
    if (l < 16) kvs_st_shared(tile + 32 + l, kvs_ld_global_nc(b_rows + l));
    kvs_syncwarp();
    /* Matrices 0..3 are the quarters of A in register order: rows 0..7 and 8..15, then the right half. */
    kvs_ldmatrix_x4(a, tile + 2 * (l % 16) + l / 16);
    kvs_ldmatrix_x4_trans(b, tile + 32 + l % 16); /* matrices 2 and 3 repeat 0 and 1 */
    float sums[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    kvs_mma_m16n8k16(sums, a, b);
    for (uint32_t r = 0; r < 4; r++) kvs_st_global(d + (l / 4 + 8 * (r / 2)) * 8 + 2 * (l % 4) + r % 2, sums[r]);
}

static void test_matrices(void **) {
    for (uint64_t seed : seeds) {
        kvs_simt_settings()->order_seed = seed;
        device_array<uint16_t> a(256, "a", KVS_SIMT_READ_ONLY), b(128, "b", KVS_SIMT_READ_ONLY);
        device_array<float> d(128, "d", KVS_SIMT_UNWRITTEN);
        for (int i = 0; i < 256; i++) a[i] = kvs_float_to_half(4.0f * kvs_random_unit(seed, i) - 2.0f);
        for (int i = 0; i < 128; i++) b[i] = kvs_float_to_half(4.0f * kvs_random_unit(seed + 1, i) - 2.0f);
        launched(kvs_launch(matrix_kernel, 1, 32, 48 * 16, nullptr, (const kvs_u32x4 *)(void *)a.data,
                            (const kvs_u32x4 *)(void *)b.data, d.data));
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++) {
                double sum = 1 + (m / 8) * 2 + n % 2, size = sum; /* what the register began with */
                for (int k = 0; k < 16; k++) {
                    double product = (double)kvs_half_to_float(a[m * 16 + k]) * kvs_half_to_float(b[k * 8 + n]);
                    sum += product;
                    size += product < 0 ? -product : product;
                }
                double error = d[m * 8 + n] - sum;
                assert_true((error < 0 ? -error : error) <= 16 * 0x1p-24 * size);
            }
    }
}

enum { TILE = 32 };

/* Transposes tiles through shared memory, with fewer threads than elements and a copy in flight ahead of the work. */
KVS_KERNEL(128, 1) transpose_kernel(const uint32_t *in, uint32_t *out, uint32_t width, uint32_t height) {
    uint32_t *tiles = (uint32_t *)(void *)KVS_SHARED, t = threadIdx.x;
    uint32_t row = blockIdx.x * TILE, count = width / TILE;
    auto fetch = [=](uint32_t tile) {
        for (uint32_t i = t; i < TILE * TILE / 4; i += blockDim.x)
            kvs_cp_async16(tiles + tile % 2 * TILE * TILE + 4 * i,
                           in + (row + i / 8) * (size_t)width + tile * TILE + i % 8 * 4);
        kvs_cp_async_commit();
    };
    fetch(0);
    for (uint32_t tile = 0; tile < count; tile++) {
        if (tile + 1 < count) {
            fetch(tile + 1);
            kvs_cp_async_wait<1>();
        } else {
            kvs_cp_async_wait<0>();
        }
        kvs_syncthreads();
        for (uint32_t i = t; i < TILE * TILE; i += blockDim.x)
            kvs_st_global(out + (tile * TILE + i / TILE) * (size_t)height + row + i % TILE,
                          kvs_ld_shared(tiles + tile % 2 * TILE * TILE + i % TILE * TILE + i / TILE));
        kvs_syncthreads();
    }
}

static void test_pipeline(void **) {
    enum { WIDTH = 160, HEIGHT = 224 };
    for (int unchecked = 0; unchecked < 2; unchecked++)
        for (uint64_t seed : seeds) {
            kvs_simt_settings()->order_seed = seed;
            kvs_simt_settings()->unchecked = unchecked;
            device_array<uint32_t> in(WIDTH * HEIGHT, "in", KVS_SIMT_READ_ONLY), out(WIDTH * HEIGHT, "out");
            for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) in[i] = i * 2654435761u;
            launched(kvs_launch(transpose_kernel, HEIGHT / TILE, 128, 2 * TILE * TILE * 4, nullptr, in.data, out.data,
                                (uint32_t)WIDTH, (uint32_t)HEIGHT));
            for (uint32_t r = 0; r < HEIGHT; r++)
                for (uint32_t c = 0; c < WIDTH; c++) assert_int_equal(out[c * HEIGHT + r], in[r * WIDTH + c]);
        }
}

/* The last block to finish adds up what all blocks wrote: a fence, an atomic, then reads of other blocks' writes. */
KVS_KERNEL(64, 1) last_block_kernel(uint32_t *parts, uint32_t *finished, uint32_t *total) {
    uint32_t t = threadIdx.x, *is_last = (uint32_t *)(void *)KVS_SHARED;
    kvs_st_global(parts + blockIdx.x * blockDim.x + t, blockIdx.x + t);
    kvs_threadfence();
    kvs_syncthreads();
    if (t == 0) kvs_st_shared(is_last, (uint32_t)(kvs_atomic_add_global(finished, 1) == gridDim.x - 1));
    kvs_syncthreads();
    if (!kvs_ld_shared(is_last)) return;
    uint32_t sum = 0;
    for (uint32_t i = t; i < gridDim.x * blockDim.x; i += blockDim.x) sum += kvs_ld_global(parts + i);
    for (int mask = 16; mask > 0; mask /= 2) sum += kvs_shfl_xor(sum, mask);
    if (t % 32 == 0) kvs_atomic_add_global(total, sum);
}

static void test_last_block(void **) {
    enum { BLOCKS = 37 };
    for (uint64_t seed : seeds) {
        kvs_simt_settings()->order_seed = seed;
        device_array<uint32_t> parts(BLOCKS * 64, "parts", KVS_SIMT_UNWRITTEN), finished(1, "finished"),
            total(1, "total");
        launched(kvs_launch(last_block_kernel, BLOCKS, 64, 16, nullptr, parts.data, finished.data, total.data));
        assert_int_equal(total[0], 64 * BLOCKS * (BLOCKS - 1) / 2 + BLOCKS * 64 * 63 / 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_indices, default_options),
        cmocka_unit_test_setup(test_collectives, default_options),
        cmocka_unit_test_setup(test_matrices, default_options),
        cmocka_unit_test_setup(test_pipeline, default_options),
        cmocka_unit_test_setup(test_last_block, default_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
