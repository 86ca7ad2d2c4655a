package e2e

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/conformance"
	"github.com/project-iris/iris/spec/endpoint"
)

func TestRelayConforms(t *testing.T) {
	d := startDev(t)
	d.attach(t)
	results, err := conformance.Suite{
		Dial: func(ctx context.Context) (net.Conn, error) { return endpoint.Dial(ctx, d.port) },
		Port: d.port,
	}.Run(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(results), 500)
	for _, r := range results {
		if r.Outcome != conformance.Pass {
			t.Errorf("%s (%s): %s", r.ID, r.Shape, r.Why)
		}
	}
}
