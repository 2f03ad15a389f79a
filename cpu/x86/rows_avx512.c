// Products with weights as the file holds them, AVX-512 VNNI: the types that most files are of.
#include "cpu/x86/lanes_avx512.h"

#include "cpu/rows_panel.h"
#include "cpu/x86/x86.h"

STK_ROWS_OF(q8_0, avx512, .bytes = 34, .is_wide = true)
STK_ROWS_OF(q4_k, avx512, .bytes = 144, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q5_k, avx512, .bytes = 176, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q6_k, avx512, .bytes = 210, .is_super = true, .has_sub = true)
