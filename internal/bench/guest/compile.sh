# A load like that of a compiler run: many short processes, each of which reads one small file and writes another, some
# of them with much to compute. A unit is what one source file takes; it is told on standard output.
#
# Typed at the shell of a guest; it runs while /tmp/compile is there.
cd /data || cd /tmp
awk 'BEGIN { for (i = 0; i < 300; i++) print "int f" i "(int x) { return x * " i * 7919 % 1000 " + g" i % 13 "(x); }" }' >/tmp/source
n=0
while [ -e /tmp/compile ]; do
	n=$((n + 1))
	mkdir -p build
	sed "s/f/f${n}_/" /tmp/source >build/u$n.i                        # preprocess
	awk '{ n += length($3); print n, $2, $1, $0 }' build/u$n.i >build/u$n.s # compile
	gzip -c build/u$n.s >build/u$n.o                                  # assemble
	md5sum build/u$n.o >build/u$n.d
	rm build/u$n.i
	if [ $((n % 8)) = 0 ]; then # link, and begin anew
		cat build/*.o | gzip >program
		rm -r build
	fi
	echo "compiled $n"
done
rm -rf build program
echo "compiled $((n * 0))"
