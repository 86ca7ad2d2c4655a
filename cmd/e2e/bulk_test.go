package e2e

import (
	"context"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/load"
	iris "github.com/project-iris/iris/sdk"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A received is what came through a tunnel, up to its end.
type received struct {
	bytes int
	sum   uint32
}

// A sinkhole receives what comes through its tunnels, and tells what it was.
type sinkhole struct {
	service
	got chan received
}

func (s *sinkhole) HandleTunnel(tunnel *iris.Tunnel) {
	var r received
	for {
		message, err := tunnel.Recv(context.Background())
		if err != nil {
			s.got <- r
			return
		}
		r.bytes += len(message)
		r.sum = crc32.Update(r.sum, castagnoli, message)
	}
}

// thousandASecond sends 1,000 requests a second until ctx is done, or for d.
func thousandASecond(ctx context.Context, t *testing.T, conn *iris.Connection, d time.Duration) load.Summary {
	t.Helper()
	meter := load.NewMeter()
	load.Run(ctx, load.Config{InFlight: 256, Rate: 1000, Duration: d}, meter, func(context.Context) error {
		_, err := conn.Request(t.Context(), "echo", []byte("beside it"))
		return err
	})
	s := meter.Summary()
	require.Empty(t, s.Errors)
	return s
}

func TestGibibyteThroughATunnelBesideRequests(t *testing.T) {
	const size, chunk = 1 << 30, 256 << 10
	c := startCluster(t, 2)
	hole := &sinkhole{got: make(chan received, 1)}
	register(t, c.Nodes[0], "hole", hole, nil)
	serve(t, c.Nodes[0], "echo", echo)
	conn := connect(t, c.Nodes[1]) // the same connection for both
	without := thousandASecond(t.Context(), t, conn, 3*time.Second)

	message := make([]byte, chunk)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(message)
	ctx, done := context.WithCancel(t.Context())
	defer done()
	beside := make(chan load.Summary, 1)
	go func() { beside <- thousandASecond(ctx, t, conn, 10*time.Minute) }()
	tunnel, err := conn.Tunnel(t.Context(), "hole")
	require.NoError(t, err)
	began := time.Now()
	sum := uint32(0)
	for sent := 0; sent < size; sent += chunk {
		message[sent/chunk%chunk]++
		sum = crc32.Update(sum, castagnoli, message)
		require.NoError(t, tunnel.Send(t.Context(), message))
	}
	require.NoError(t, tunnel.Close())
	took := time.Since(began)
	done()
	with := await(t, beside)
	require.Equal(t, received{size, sum}, await(t, hole.got))
	t.Logf("1 GiB in %v, %.0f MB/s", took, size/1e6/took.Seconds())
	t.Logf("requests without it: %v", without)
	t.Logf("requests beside it:  %v", with)
	require.Greater(t, with.Count, int64(took.Seconds()*500), "requests go on")
	require.Less(t, with.P99, time.Second, "some milliseconds on a machine that has nothing else to do")
}
