//go:build ignore

// Big writes big.c: 4,000 functions that are called in random order, so that the code that runs is large and cold.
package main

import (
	"fmt"
	"math/rand/v2"
)

const functions = 4000

func main() {
	r := rand.New(rand.NewPCG(1, 1))
	fmt.Println("#include \"guest.h\"")
	for i := range functions {
		fmt.Printf("static noinline u64 f%d(u64 x, u64 y)\n{\n", i)
		for range 2 + r.IntN(3) {
			switch r.IntN(7) {
			case 0:
				fmt.Printf("\tx += y << %d;\n", 1+r.IntN(20))
			case 1:
				fmt.Printf("\ty ^= x >> %d;\n", 1+r.IntN(30))
			case 2:
				fmt.Printf("\tx = x * %d + y;\n", 3+2*r.IntN(500))
			case 3:
				fmt.Printf("\tif (x & %d)\n\t\ty += %d;\n\telse\n\t\tx ^= y;\n", 1<<r.IntN(10), r.IntN(2000))
			case 4:
				fmt.Printf("\ty -= x | %d;\n", r.IntN(2000))
			case 5:
				fmt.Printf("\tx ^= ((u64 *)arena)[y %% 64 * 8 + %d];\n", r.IntN(8))
			case 6:
				fmt.Printf("\t((u64 *)arena)[x %% 64 * 8 + %d] += y;\n", r.IntN(8))
			}
		}
		fmt.Printf("\treturn x ^ y;\n}\n")
	}
	fmt.Println("static u64 (*const table[])(u64, u64) = {")
	for i := range functions {
		fmt.Printf("\tf%d,\n", i)
	}
	fmt.Printf(`};

u64 run_big(u64 reps)
{
	u64 seed = 10, x = 1, y = 2;
	for (u64 r = 0; r < reps * 16384; r++) {
		u64 n = next_random(&seed);
		y += x;
		x = table[(n >> 32) * %d >> 32](x, y);
	}
	return mix(x, y);
}
`, functions)
}
