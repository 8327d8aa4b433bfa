package main

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// A goroutine for each pair, in a loop of Read and Write.
func ring(pairs, active, writes, warmup int) figures {
	ins, outs := make([]net.Conn, pairs), make([]net.Conn, pairs)
	for i := range ins {
		ins[i], outs[i] = socketPair()
	}
	var toWrite, toRead int64
	done := make(chan struct{})
	hop := func(position int) {
		in, out := ins[position], outs[(position+1)%pairs]
		buffer := make([]byte, 1)
		for {
			_, err := in.Read(buffer)
			check(err)
			if atomic.AddInt64(&toWrite, -1) >= 0 {
				_, err := out.Write(buffer)
				check(err)
			}
			if atomic.AddInt64(&toRead, -1) == 0 {
				done <- struct{}{}
			}
		}
	}
	round := func(count int) {
		atomic.StoreInt64(&toWrite, int64(count-active))
		atomic.StoreInt64(&toRead, int64(count))
		for i := 0; i < active; i++ {
			_, err := outs[i*(pairs/active)].Write([]byte{'x'})
			check(err)
		}
		<-done
	}
	for position := range ins {
		go hop(position)
	}
	round(warmup)
	passGate()
	watch := start()
	round(writes)
	return watch.stop(writes)
}

// As bench/gate.py: start with the other processes.
func passGate() {
	numbers := os.Getenv("BENCH_GATE")
	if numbers == "" {
		return
	}
	var ready, open int
	_, err := fmt.Sscanf(numbers, "%d,%d", &ready, &open)
	check(err)
	_, err = syscall.Write(ready, []byte{'!'})
	check(err)
	check(syscall.Close(ready))
	_, err = syscall.Read(open, make([]byte, 1))
	check(err)
	check(syscall.Close(open))
}

func socketPair() (net.Conn, net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	return connection(fds[0]), connection(fds[1])
}

// net's own Conn for an fd: FileConn works on a copy of it.
func connection(fd int) net.Conn {
	file := os.NewFile(uintptr(fd), "socketpair")
	defer file.Close()
	conn, err := net.FileConn(file)
	check(err)
	return conn
}
