package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// workers is how many parts are in flight at once.
const workers = 8

// A tally is what a counter replies for one part.
type tally struct {
	Counter string
	Words   map[string]int
}

// A counter is the service of the demo.
type counter struct {
	name  string
	heard chan struct{} // capacity 1: a broadcast has come
}

// Init has nothing to prepare.
func (c *counter) Init(*iris.Connection) error { return nil }

// HandleRequest counts the words of one part.
func (c *counter) HandleRequest(request []byte) ([]byte, error) {
	return json.Marshal(tally{c.name, count(string(request))})
}

// HandleDrop is called on the node that is killed: the service is gone with it.
func (c *counter) HandleDrop(error) {}

// A job counts a text with the cluster and checks the result.
type job struct {
	conn *iris.Connection
	want map[string]int

	mu             sync.Mutex // guards the fields below
	total          map[string]int
	answered       map[string]int
	failed         int
	failure        error
	slowestFailure time.Duration
	took           time.Duration
}

func (j *job) reset() {
	j.total, j.answered, j.failed, j.failure, j.slowestFailure = nil, nil, 0, nil, 0
}

// run sends all parts and checks the totals. After a third of them it calls
// halfway, if there is one.
func (j *job) run(ctx context.Context, parts []string, halfway func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	j.total, j.answered = map[string]int{}, map[string]int{}
	began := time.Now()
	var next atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(parts) || errs[w] != nil {
					return
				}
				if i == len(parts)/3 && halfway != nil {
					errs[w] = halfway()
				}
				errs[w] = errors.Join(errs[w], j.send(ctx, parts[i]))
			}
		})
	}
	wg.Wait()
	j.took = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !maps.Equal(j.total, j.want) {
		return fmt.Errorf("demo: the services counted %v, the text has %v", j.total, j.want)
	}
	return nil
}

// send has one part counted. Counting twice does no harm, so a part whose
// member was lost is sent again.
func (j *job) send(ctx context.Context, part string) error {
	for {
		began := time.Now()
		reply, err := j.conn.Request(ctx, "wordcount", []byte(part))
		if errors.Is(err, iris.ErrLost) {
			j.fail(err, time.Since(began))
			continue
		}
		if err != nil {
			return fmt.Errorf("demo: request: %w", err)
		}
		var t tally
		if err := json.Unmarshal(reply, &t); err != nil {
			return fmt.Errorf("demo: reply: %w", err)
		}
		j.add(t)
		return nil
	}
}

func (j *job) add(t tally) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.answered[t.Counter]++
	for word, n := range t.Words {
		j.total[word] += n
	}
}

func (j *job) fail(err error, after time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed++
	j.failure = err
	j.slowestFailure = max(j.slowestFailure, after)
}
