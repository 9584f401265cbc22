// Rows of words in plain loops, for compilers to vectorise.
#pragma once

static HR_INLINE double double_of(u64 bits) {
    double out;
    __builtin_memcpy(&out, &bits, 8);
    return out;
}

static HR_INLINE u64 bits_of(double value) {
    u64 out;
    __builtin_memcpy(&out, &value, 8);
    return out;
}

// An integer in a double, below 2^51 in size, as a word.
static HR_INLINE u64 word_of(double value) { return bits_of(value + 0x1.8p52) - bits_of(0x1.8p52); }

static HR_INLINE u64 least(u64 residue, u64 q) {
    return residue - ((i64)residue > (i64)(q / 2) ? q : 0);
}

static void of_digits(u64 *out, const u64 *first, const u64 *digit, u64 p1, u64 p2, u64 n) {
    for (u64 i = 0; i < n; i++) out[i] = first[i] + p1 * least(digit[i], p2);
}

static void with_message(u64 *out, const u64 *a, const double *e, const u64 *m, u64 factor, u64 n) {
    for (u64 i = 0; i < n; i++) out[i] = a[i] + word_of(e[i]) + factor * m[i];
}

static void quotient(u64 *out, const u64 *a, const u64 *first, const u64 *digit, u64 p1, u64 inverse, const u64 *mask,
                     u64 shift, u64 n) {
    if (digit && mask)
        for (u64 i = 0; i < n; i++) out[i] = ((a[i] - first[i] - p1 * digit[i]) * inverse - mask[i]) >> shift;
    else if (digit)
        for (u64 i = 0; i < n; i++) out[i] = ((a[i] - first[i] - p1 * digit[i]) * inverse) >> shift;
    else if (mask)
        for (u64 i = 0; i < n; i++) out[i] = ((a[i] - first[i]) * inverse - mask[i]) >> shift;
    else
        for (u64 i = 0; i < n; i++) out[i] = ((a[i] - first[i]) * inverse) >> shift;
}

static u64 joined(u64 *out, const u64 *a, const u64 *first, const u64 *digit, u64 p1, u64 p2, u64 whole, u64 inverse,
                  u64 margin, u32 start, u32 *close, u64 n) {
    for (u64 i = 0; i < n; i++) out[i] = (a[i] + first[i] + p1 * digit[i] - whole) * inverse;
    u64 found = 0;
    for (u64 i = 0; i < n; i += CHUNK) {
        // A digit that is not far from both ends makes one of these negative.
        u64 signs = 0;
        for (u64 k = i; k < i + CHUNK; k++) signs |= (digit[k] - margin) | (p2 - margin - 1 - digit[k]);
        if (!(signs >> 63)) continue;
        for (u64 k = i; k < i + CHUNK; k++)
            if (((digit[k] - margin) | (p2 - margin - 1 - digit[k])) >> 63) close[found++] = start + (u32)k;
    }
    return found;
}

static void masked(u64 *out, const u64 *a, const u64 *mask, u64 shift, u64 n) {
    if (mask)
        for (u64 i = 0; i < n; i++) out[i] = (a[i] - mask[i]) >> shift;
    else
        for (u64 i = 0; i < n; i++) out[i] = a[i] >> shift;
}

static double dot(const double *a, const double *b, u64 n) {
    double sums[16] = {};
    for (u64 i = 0; i < n; i += 16)
        for (int k = 0; k < 16; k++) sums[k] += a[i + k] * b[i + k];
    double total = 0.0;
    for (double sum : sums) total += sum;
    return total;
}

static void centred(u64 *out, const u64 *a, u64 bits, u64 n) {
    const u64 half = (u64)1 << (bits - 1), most = half + (half - 1);
    for (u64 i = 0; i < n; i++) out[i] = ((a[i] + half) & most) - half;
}

static void of_residues(u64 *out, const u64 *a, u64 q, u64 n) {
    for (u64 i = 0; i < n; i++) out[i] = least(a[i], q);
}

static void rounded(u64 *out, const u64 *top, const u64 *product, const u64 *added, u64 lost, u64 missing, u64 n) {
    const u64 half = lost ? (u64)1 << (lost - 1) : 0;
    for (u64 i = 0; i < n; i++) out[i] = ((top[i] << lost) + half + added[i] - (product[i] << missing)) >> lost;
}
