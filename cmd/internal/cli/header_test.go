package cli

import (
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/iristest"
	iris "github.com/project-iris/iris/sdk"
)

// A mirror answers with the headers of what it gets, in JSON.
type mirror struct {
	idle
	broadcasts chan string // capacity for all
}

func inJSON(headers map[string]string) []byte {
	b, err := json.Marshal(headers)
	if err != nil {
		panic(err)
	}
	return b
}

func (m *mirror) HandleRequestContext(_ context.Context, r *iris.Request) (*iris.Reply, error) {
	return &iris.Reply{Payload: inJSON(r.Headers)}, nil
}

func (m *mirror) HandleBroadcastMessage(b *iris.Message) { m.broadcasts <- string(inJSON(b.Headers)) }

func (m *mirror) HandleTunnel(t *iris.Tunnel) {
	_ = t.Send(context.Background(), inJSON(t.Headers())) // the other side may be gone
}

// play runs a command with a bound and returns what it printed.
func play(t *testing.T, run func(context.Context, Streams, []string) error, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out strings.Builder
	err := run(ctx, Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard}, args)
	return out.String(), err
}

// within receives, with a bound.
func within[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came in 30 s")
		panic("unreachable")
	}
}

func TestHeadersCrossTwoNodes(t *testing.T) {
	ports := iristest.Network(t, 2)
	m := &mirror{broadcasts: make(chan string, 1)}
	service, err := iris.Register(ports[0], "mirror", m, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, service.Unregister()) })
	near := []string{"-port", strconv.Itoa(ports[1]), "-header", "trace=00-1", "-header", "q=a=b", "-header", "q=c=d"}
	const want = `{"q":"c=d","trace":"00-1"}`

	for name, run := range map[string]func(context.Context, Streams, []string) error{"request": request, "tunnel": tunnel} {
		out, err := play(t, run, append(near, "mirror")...)
		require.NoError(t, err, name)
		require.Equal(t, want, out, name)
	}
	_, err = play(t, broadcast, append(near, "mirror", "hello")...)
	require.NoError(t, err)
	require.Equal(t, want, within(t, m.broadcasts))
}

func TestSubscribeShowsHeadersInJSON(t *testing.T) {
	port := strconv.Itoa(iristest.Node(t))
	ready, told := io.Pipe()
	printed := make(chan string, 1)
	go func() {
		var out strings.Builder
		err := subscribe(t.Context(), Streams{Out: &out, Err: told}, []string{"-port", port, "-json", "-count", "2", "news"})
		if err != nil {
			t.Error(err)
		}
		printed <- out.String()
	}()
	if _, err := ready.Read(make([]byte, 100)); err != nil { // it has subscribed
		t.Fatal(err)
	}
	_, err := play(t, publish, "-port", port, "-header", "a=1", "news", "with")
	require.NoError(t, err)
	_, err = play(t, publish, "-port", port, "news", "without")
	require.NoError(t, err)
	text := within(t, printed) // in any order: they came from two senders
	require.Contains(t, text, `"headers":{"a":"1"},"text":"with"`)
	require.Contains(t, text, `"topic":"news","text":"without"`)
}

func TestBadHeadersAreUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-header", "novalue", "cluster"},
		{"-accept", "-header", "a=b", "cluster", "--", "cat"},
	} {
		_, err := play(t, tunnel, args...)
		require.Equal(t, exitUsage, exitCode(err), err)
		require.ErrorContains(t, err, "header")
	}
}
