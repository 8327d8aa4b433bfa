// Go's peers of the benchmarks, standard library alone: go_peers ROLE ARGUMENT...
//
// A server serves for ever; everything else prints one line of JSON, as bench.child does for the
// peers in Python. Figures are what bench/accounting.py measures: the process's CPU clock, user and
// kernel, all threads, so the garbage collector's too.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: go_peers ROLE ARGUMENT"))
	}
	role, arguments := os.Args[1], os.Args[2:]
	switch role {
	case "echo":
		serveTCP(number(arguments[0]), number(arguments[1]))
	case "udp":
		serveUDP(number(arguments[0]), number(arguments[1]))
	case "tls":
		serveTLS(number(arguments[0]), number(arguments[1]), arguments[2], arguments[3])
	case "ring":
		print(ring(number(arguments[0]), number(arguments[1]), number(arguments[2]), number(arguments[3])))
	case "pending":
		print(pending(number(arguments[0])))
	case "parked":
		print(parked(number(arguments[0])))
	case "timers":
		print(lateness(number(arguments[0]), decimal(arguments[1]), decimal(arguments[2]), decimal(arguments[3])))
	case "event":
		print(wakeAll(number(arguments[1])))
	case "hubs":
		runtime.GOMAXPROCS(number(arguments[2]))
		print(timedTwice(work[role+" "+arguments[0]], number(arguments[1])))
	default:
		print(timedTwice(work[role+" "+arguments[0]], number(arguments[1])))
	}
}

type figures map[string]float64

type stopwatch struct {
	wall time.Time
	cpu  int64
}

func start() stopwatch {
	return stopwatch{time.Now(), cpuTime()}
}

// Microseconds for each of so many events since the start.
func (watch stopwatch) stop(events int) figures {
	cpu, wall := cpuTime()-watch.cpu, time.Since(watch.wall)
	each := 1e3 * float64(events)
	return figures{
		"events": float64(events), "cpu_us": float64(cpu) / each, "wall_us": float64(wall) / each,
	}
}

func timedTwice(work func(int), count int) figures {
	work(count)
	watch := start()
	work(count)
	return watch.stop(count)
}

func cpuTime() int64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func residentBytes() float64 {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	check(err)
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Rss:" {
			return float64(number(fields[1])) * 1024
		}
	}
	panic("/proc/self/smaps_rollup has no Rss line")
}

func print(result figures) {
	text, err := json.Marshal(result)
	check(err)
	fmt.Println(string(text))
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func decimal(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go_peers:", err)
	os.Exit(1)
}
