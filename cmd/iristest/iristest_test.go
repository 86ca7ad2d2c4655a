package iristest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/iristest"
	iris "github.com/project-iris/iris/sdk"
)

type echo struct{}

func (echo) Init(*iris.Connection) error              { return nil }
func (echo) HandleRequest(req []byte) ([]byte, error) { return req, nil }
func (echo) HandleBroadcast([]byte)                   {}
func (echo) HandleTunnel(*iris.Tunnel)                {}
func (echo) HandleDrop(error)                         {}

// ask registers an echo at one port and sends a request at another.
func ask(t *testing.T, at, from int) {
	service, err := iris.Register(at, "echo", echo{}, nil)
	require.NoError(t, err)
	conn, err := iris.Connect(from)
	require.NoError(t, err)
	reply, err := conn.Request(t.Context(), "echo", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(reply))
	require.NoError(t, conn.Close())
	require.NoError(t, service.Unregister())
}

func TestNodeServesItsTest(t *testing.T) {
	port := iristest.Node(t)
	ask(t, port, port)
}

func TestNodesOfANetworkServeEachOther(t *testing.T) {
	ports := iristest.Network(t, 3)
	ask(t, ports[0], ports[2])
}
