/* wrapper_kernels.cu: one kernel for each wrapper of kernels/simt/simt.h, for test_instructions.sh to look at. A line
 * `expect: NAME | PTX | SASS` says which instructions the kernel NAME has that touch memory, other lanes, barriers or
 * the matrix unit: all of them, in alphabetical order. A load ends in a store, so that the compiler keeps it. */
#include "kernels/simt/simt.h"

#define GLOBAL extern "C" __global__ void __launch_bounds__(32)

/* expect: load_1 | ld.global.u8 st.global.u8 | LDG.E.U8 STG.E.U8 */
GLOBAL load_1(const uint8_t *from, uint8_t *to) {
    kvs_st_global(to, kvs_ld_global(from));
}
/* expect: load_2 | ld.global.u16 st.global.u16 | LDG.E.U16 STG.E.U16 */
GLOBAL load_2(const uint16_t *from, uint16_t *to) {
    kvs_st_global(to, kvs_ld_global(from));
}
/* expect: load_4 | ld.global.u32 st.global.u32 | LDG.E STG.E */
GLOBAL load_4(const uint32_t *from, uint32_t *to) {
    kvs_st_global(to, kvs_ld_global(from));
}
/* expect: load_8 | ld.global.v2.u32 st.global.v2.u32 | LDG.E.64 STG.E.64 */
GLOBAL load_8(const kvs_u32x2 *from, kvs_u32x2 *to) {
    kvs_st_global(to, kvs_ld_global(from));
}
/* expect: load_16 | ld.global.v4.u32 st.global.v4.u32 | LDG.E.128 STG.E.128 */
GLOBAL load_16(const kvs_u32x4 *from, kvs_u32x4 *to) {
    kvs_st_global(to, kvs_ld_global(from));
}
/* expect: load_nc_1 | ld.global.nc.u8 st.global.u8 | LDG.E.U8.CONSTANT STG.E.U8 */
GLOBAL load_nc_1(const uint8_t *from, uint8_t *to) {
    kvs_st_global(to, kvs_ld_global_nc(from));
}
/* expect: load_nc_2 | ld.global.nc.u16 st.global.u16 | LDG.E.U16.CONSTANT STG.E.U16 */
GLOBAL load_nc_2(const uint16_t *from, uint16_t *to) {
    kvs_st_global(to, kvs_ld_global_nc(from));
}
/* expect: load_nc_4 | ld.global.nc.u32 st.global.u32 | LDG.E.CONSTANT STG.E */
GLOBAL load_nc_4(const uint32_t *from, uint32_t *to) {
    kvs_st_global(to, kvs_ld_global_nc(from));
}
/* expect: load_nc_8 | ld.global.nc.v2.u32 st.global.v2.u32 | LDG.E.64.CONSTANT STG.E.64 */
GLOBAL load_nc_8(const kvs_u32x2 *from, kvs_u32x2 *to) {
    kvs_st_global(to, kvs_ld_global_nc(from));
}
/* expect: load_nc_16 | ld.global.nc.v4.u32 st.global.v4.u32 | LDG.E.128.CONSTANT STG.E.128 */
GLOBAL load_nc_16(const kvs_u32x4 *from, kvs_u32x4 *to) {
    kvs_st_global(to, kvs_ld_global_nc(from));
}

template <class T> KVS_DEVICE T *shared_of(int offset) {
    return (T *)(KVS_SHARED + offset);
}

/* expect: shared_load_1 | ld.shared.u8 st.global.u8 | LDS.U8 STG.E.U8 */
GLOBAL shared_load_1(uint8_t *to, int at) {
    kvs_st_global(to, kvs_ld_shared(shared_of<uint8_t>(at)));
}
/* expect: shared_load_2 | ld.shared.u16 st.global.u16 | LDS.U16 STG.E.U16 */
GLOBAL shared_load_2(uint16_t *to, int at) {
    kvs_st_global(to, kvs_ld_shared(shared_of<uint16_t>(at)));
}
/* expect: shared_load_4 | ld.shared.u32 st.global.u32 | LDS STG.E */
GLOBAL shared_load_4(uint32_t *to, int at) {
    kvs_st_global(to, kvs_ld_shared(shared_of<uint32_t>(at)));
}
/* expect: shared_load_8 | ld.shared.v2.u32 st.global.v2.u32 | LDS.64 STG.E.64 */
GLOBAL shared_load_8(kvs_u32x2 *to, int at) {
    kvs_st_global(to, kvs_ld_shared(shared_of<kvs_u32x2>(at)));
}
/* expect: shared_load_16 | ld.shared.v4.u32 st.global.v4.u32 | LDS.128 STG.E.128 */
GLOBAL shared_load_16(kvs_u32x4 *to, int at) {
    kvs_st_global(to, kvs_ld_shared(shared_of<kvs_u32x4>(at)));
}
/* expect: shared_store_1 | st.shared.u8 | STS.U8 */
GLOBAL shared_store_1(int at, uint32_t x) {
    kvs_st_shared(shared_of<uint8_t>(at), (uint8_t)x);
}
/* expect: shared_store_2 | st.shared.u16 | STS.U16 */
GLOBAL shared_store_2(int at, uint32_t x) {
    kvs_st_shared(shared_of<uint16_t>(at), (uint16_t)x);
}
/* expect: shared_store_4 | st.shared.u32 | STS */
GLOBAL shared_store_4(int at, uint32_t x) {
    kvs_st_shared(shared_of<uint32_t>(at), x);
}
/* expect: shared_store_8 | st.shared.v2.u32 | STS.64 */
GLOBAL shared_store_8(int at, kvs_u32x2 x) {
    kvs_st_shared(shared_of<kvs_u32x2>(at), x);
}
/* expect: shared_store_16 | st.shared.v4.u32 | STS.128 */
GLOBAL shared_store_16(int at, kvs_u32x4 x) {
    kvs_st_shared(shared_of<kvs_u32x4>(at), x);
}

/* expect: copy_async | cp.async.cg.shared.global | LDGSTS.E.BYPASS.128 */
GLOBAL copy_async(const kvs_u32x4 *from, int at) {
    kvs_cp_async16(shared_of<kvs_u32x4>(at), from);
}
/* expect: copy_commit | cp.async.commit_group | LDGDEPBAR */
GLOBAL copy_commit() {
    kvs_cp_async_commit();
}
/* expect: copy_wait | cp.async.wait_group | DEPBAR.LE */
GLOBAL copy_wait() {
    kvs_cp_async_wait<1>();
}

/* expect: matrix_load | ldmatrix.sync.aligned.m8n8.x4.shared.b16 st.global.v4.u32 | LDSM.16.M88.4 STG.E.128 */
GLOBAL matrix_load(kvs_u32x4 *to, int at) {
    uint32_t r[4];
    kvs_ldmatrix_x4(r, shared_of<kvs_u32x4>(at));
    kvs_st_global(to, kvs_u32x4{r[0], r[1], r[2], r[3]});
}
/* expect: trans | ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 st.global.v4.u32 | LDSM.16.MT88.4 STG.E.128 */
GLOBAL trans(kvs_u32x4 *to, int at) {
    uint32_t r[4];
    kvs_ldmatrix_x4_trans(r, shared_of<kvs_u32x4>(at));
    kvs_st_global(to, kvs_u32x4{r[0], r[1], r[2], r[3]});
}
/* expect: mma | mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 st.global.v4.u32 | HMMA.16816.F32 STG.E.128 */
GLOBAL mma(kvs_u32x4 *to, kvs_u32x4 x, kvs_u32x2 y, kvs_u32x4 z) {
    const uint32_t a[4] = {x.x, x.y, x.z, x.w}, b[2] = {y.x, y.y};
    float d[4] = {kvs_bit_cast<float>(z.x), kvs_bit_cast<float>(z.y), kvs_bit_cast<float>(z.z),
                  kvs_bit_cast<float>(z.w)};
    kvs_mma_m16n8k16(d, a, b);
    kvs_u32x4 sums = {kvs_bit_cast<uint32_t>(d[0]), kvs_bit_cast<uint32_t>(d[1]), kvs_bit_cast<uint32_t>(d[2]),
                      kvs_bit_cast<uint32_t>(d[3])};
    kvs_st_global(to, sums);
}
/* expect: matrix_transpose | movmatrix.sync.aligned.m8n8.trans.b16 st.global.u32 | MOVM.16.MT88 STG.E */
GLOBAL matrix_transpose(uint32_t *to, uint32_t x) {
    kvs_st_global(to, kvs_movmatrix_trans(x));
}

/* expect: exchange | shfl.sync.idx.b32 st.global.u32 | SHFL.IDX STG.E */
GLOBAL exchange(uint32_t *to, uint32_t x, int lane) {
    kvs_st_global(to, kvs_shfl(x + threadIdx.x, lane));
}
/* expect: exchange_xor | shfl.sync.bfly.b32 st.global.u32 | SHFL.BFLY STG.E */
GLOBAL exchange_xor(uint32_t *to, uint32_t x) {
    kvs_st_global(to, kvs_shfl_xor(x + threadIdx.x, 4));
}
/* expect: exchange_down | shfl.sync.down.b32 st.global.u32 | SHFL.DOWN STG.E */
GLOBAL exchange_down(uint32_t *to, uint32_t x) {
    kvs_st_global(to, kvs_shfl_down(x + threadIdx.x, 4));
}
/* expect: ballot | st.global.u32 vote.sync.ballot.b32 | STG.E VOTE.ANY */
GLOBAL ballot(uint32_t *to, uint32_t x) {
    kvs_st_global(to, kvs_ballot(x > threadIdx.x));
}
/* expect: barrier | bar.sync | BAR.SYNC.DEFER_BLOCKING */
GLOBAL barrier() {
    kvs_syncthreads();
}
