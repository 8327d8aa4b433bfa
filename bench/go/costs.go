package main

import (
	"context"
	"math/rand"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

var work = map[string]func(int){
	"tasks spawn": func(count int) {
		together(count, func() {})
	},
	"tasks spawn_parking": func(count int) {
		together(count, runtime.Gosched)
	},
	"tasks switch": func(count int) {
		together(2, func() {
			for i := 0; i < count/2; i++ {
				runtime.Gosched()
			}
		})
	},
	"tasks timeout": func(count int) {
		for i := 0; i < count; i++ {
			_, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			cancel()
		}
	},
	"channel round_trip": func(count int) {
		there, back := make(chan int), make(chan int)
		go func() {
			for message := range there {
				back <- message
			}
		}()
		for i := 0; i < count; i++ {
			there <- i
			expect(<-back, i)
		}
		close(there)
	},
	"channel buffered": pass,
	"hubs channel":     pass,
	"hubs pairs": func(count int) {
		together(pairs, func() { pass(count / pairs) })
	},
	// A mutex in Go has no block of its own: with_lock is a function that defers the Unlock.
	"lock with_lock": func(count int) {
		var mutex sync.Mutex
		for i := 0; i < count; i++ {
			func() {
				mutex.Lock()
				defer mutex.Unlock()
			}()
		}
	},
	"lock acquire_release": func(count int) {
		var mutex sync.Mutex
		for i := 0; i < count; i++ {
			mutex.Lock()
			mutex.Unlock()
		}
	},
	"select parked": func(count int) {
		channels, taken := four(), make(chan struct{})
		go func() {
			for i := 0; i < count; i++ {
				channels[i%4] <- i
				<-taken
			}
		}()
		for i := 0; i < count; i++ {
			expect(firstOf(channels), i)
			taken <- struct{}{}
		}
	},
	"select ready": func(count int) {
		channels := four()
		for i := 0; i < count; i++ {
			channels[i%4] <- i
			expect(firstOf(channels), i)
		}
	},
}

const pairs = 8 // of "hubs pairs": see PAIRS in bench/peers/straight_hubs.py

// One goroutine sends to another through a buffer of a hundred.
func pass(count int) {
	channel := make(chan int, 100)
	go func() {
		for i := 0; i < count; i++ {
			channel <- i
		}
	}()
	for i := 0; i < count; i++ {
		expect(<-channel, i)
	}
}

// So many goroutines, and wait for them.
func together(count int, do func()) {
	var group sync.WaitGroup
	group.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			do()
			group.Done()
		}()
	}
	group.Wait()
}

func four() (channels [4]chan int) {
	for i := range channels {
		channels[i] = make(chan int, 1)
	}
	return channels
}

func firstOf(channels [4]chan int) (message int) {
	select {
	case message = <-channels[0]:
	case message = <-channels[1]:
	case message = <-channels[2]:
	case message = <-channels[3]:
	}
	return message
}

func expect(message, wanted int) {
	if message != wanted {
		panic("another message came")
	}
}

func wakeAll(count int) figures {
	event := make(chan struct{})
	var group sync.WaitGroup
	group.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			<-event
			group.Done()
		}()
	}
	runtime.Gosched()
	watch := start()
	close(event)
	group.Wait()
	return watch.stop(count)
}

func parked(count int) figures {
	park := func(number int) {
		for i := 0; i < number; i++ {
			go time.Sleep(time.Hour)
		}
		time.Sleep(100 * time.Millisecond) // now all of them have begun to wait
	}
	park(10)
	before := residentBytes()
	park(count)
	return figures{"grown": residentBytes() - before}
}

// As bench/pending.py: set, then cancel in another order, the second time.
func pending(count int) figures {
	var fired int64
	fire := func() { atomic.AddInt64(&fired, 1) }
	for i := 0; i < 100; i++ {
		timer := time.AfterFunc(2*time.Millisecond, fire)
		if i%2 == 0 {
			timer.Stop()
		}
	}
	time.Sleep(50 * time.Millisecond)
	expect(int(atomic.LoadInt64(&fired)), 50)
	random := rand.New(rand.NewSource(int64(count)))
	delays := make([]time.Duration, count)
	for i := range delays {
		delays[i] = 30*time.Second + time.Duration(random.Int63n(int64(60*time.Second)))
	}
	var setting, cancelling figures
	for round := 0; round < 2; round++ {
		timers := make([]*time.Timer, count)
		watch := start()
		for i, delay := range delays {
			timers[i] = time.AfterFunc(delay, fire)
		}
		setting = watch.stop(count)
		random.Shuffle(count, func(i, j int) { timers[i], timers[j] = timers[j], timers[i] })
		watch = start()
		for _, timer := range timers {
			timer.Stop()
		}
		cancelling = watch.stop(count)
	}
	set, cancel := setting["cpu_us"], cancelling["cpu_us"]
	return figures{"cpu_us": set + cancel, "set_us": set, "cancel_us": cancel}
}

// As bench/lateness.py; the sleeps are as random, but not the same ones.
func lateness(sleepers int, seconds, shortestMs, longestMs float64) figures {
	var mutex sync.Mutex
	var late []int64
	watch := start()
	end := time.Now().Add(time.Duration(seconds * 1e9))
	var group sync.WaitGroup
	group.Add(sleepers)
	for i := 0; i < sleepers; i++ {
		go func(seed int64) {
			defer group.Done()
			random := rand.New(rand.NewSource(seed))
			for time.Now().Before(end) {
				ms := shortestMs + random.Float64()*(longestMs-shortestMs)
				delay := time.Duration(ms * 1e6)
				due := time.Now().Add(delay)
				time.Sleep(delay)
				after := time.Since(due).Nanoseconds()
				mutex.Lock()
				late = append(late, after)
				mutex.Unlock()
			}
		}(int64(i))
	}
	group.Wait()
	cost := watch.stop(len(late))
	sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
	early := sort.Search(len(late), func(i int) bool { return late[i] >= 0 })
	share := func(part float64) float64 { return float64(late[int(part*float64(len(late)-1))]) / 1e3 }
	return figures{
		"p50_us": share(0.5), "p99_us": share(0.99), "max_us": share(1),
		"early": float64(early), "cpu_us": cost["cpu_us"], "sleeps": float64(len(late)),
	}
}
