package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsSpec is what a nats-server process is told.
type natsSpec struct {
	Port        int    `json:"port"`
	ClusterPort int    `json:"cluster_port"`
	Route       int    `json:"route"` // cluster port of the other server
	CA, CAKey   []byte // DER; each server makes its own leaf
}

// startNATS starts two servers, clustered over mutual TLS, and the service.
func startNATS(ctx context.Context) (*system, error) {
	s := &system{name: "nats"}
	ca, caKey, err := newCA()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		spec := natsSpec{Port: ports[i], ClusterPort: ports[2+i], Route: ports[3-i], CA: ca, CAKey: caKey}
		cmd, err := s.command(ctx, "nats-server", spec)
		if err != nil {
			return nil, err
		}
		stop, _, err := start(cmd)
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("nats-server: %w", err)
		}
		s.closers = append(s.closers, stop)
		s.ports[i], s.pids[i] = ports[i], cmd.Process.Pid
	}
	if err := s.startService(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, s.awaitRoute()
}

// awaitRoute waits until the first server answers for the service at the second.
func (s *system) awaitRoute() error {
	nc, err := nats.Connect(natsURL(s.ports[0]))
	if err != nil {
		return err
	}
	defer nc.Close()
	for range 100 {
		if _, err = nc.Request(echoName, nil, 100*time.Millisecond); err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return fmt.Errorf("nats: the servers did not cluster: %w", err)
}

// runNATSServer is the role of a server process.
func runNATSServer(spec string) error {
	var n natsSpec
	if err := json.Unmarshal([]byte(spec), &n); err != nil {
		return err
	}
	conf, err := mutualTLS(n.CA, n.CAKey)
	if err != nil {
		return err
	}
	route, err := url.Parse(fmt.Sprintf("nats-route://127.0.0.1:%d", n.Route))
	if err != nil {
		return err
	}
	server, err := natsserver.NewServer(&natsserver.Options{
		ServerName: strconv.Itoa(n.Port), Host: "127.0.0.1", Port: n.Port, NoSigs: true, NoLog: true, MaxPending: 1 << 30,
		Cluster: natsserver.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: n.ClusterPort, TLSConfig: conf, TLSTimeout: 5},
		Routes:  []*url.URL{route},
	})
	if err != nil {
		return err
	}
	server.Start()
	defer server.Shutdown()
	if !server.ReadyForConnections(10 * time.Second) {
		return errors.New("nats-server does not start")
	}
	fmt.Println("ready")
	awaitEnd()
	return nil
}

func natsURL(port int) string { return fmt.Sprintf("nats://127.0.0.1:%d", port) }

// natsService serves until stdin ends.
func natsService(port int) error {
	var c counter
	nc, err := nats.Connect(natsURL(port))
	if err != nil {
		return err
	}
	defer nc.Close()
	handlers := map[string]nats.MsgHandler{
		echoName: func(m *nats.Msg) { _ = m.Respond(m.Data) },
		sinkName: func(*nats.Msg) { c.add() },
		tallyName: func(m *nats.Msg) {
			b, _ := c.answer(m.Data)
			_ = m.Respond(b)
		},
	}
	for name, handle := range handlers {
		if err := subscribeNATS(nc, name, handle); err != nil {
			return err
		}
	}
	for _, subscribers := range []int{1, 4} {
		for range subscribers {
			sub, err := nats.Connect(natsURL(port))
			if err != nil {
				return err
			}
			defer sub.Close()
			if err := subscribeNATS(sub, fmt.Sprintf("%s%d", topicName, subscribers), func(*nats.Msg) { c.add() }); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	awaitEnd()
	return nil
}

// subscribeNATS subscribes without bounds of the client's own.
func subscribeNATS(nc *nats.Conn, name string, handle nats.MsgHandler) error {
	s, err := nc.Subscribe(name, handle)
	if err != nil {
		return err
	}
	if err := s.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	return nc.Flush()
}

// A natsClient is a client of NATS.
type natsClient struct{ nc *nats.Conn }

func attachNATS(port int) (client, error) {
	nc, err := nats.Connect(natsURL(port))
	return natsClient{nc}, err
}

func (c natsClient) request(name string, message []byte) ([]byte, error) {
	m, err := c.nc.Request(name, message, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (c natsClient) publish(name string, message []byte) error { return c.nc.Publish(name, message) }

// broadcast publishes to the four subscribers of a subject: NATS knows no other way.
func (c natsClient) broadcast(_ string, message []byte) error {
	return c.nc.Publish(topicName+"4", message)
}

func (c natsClient) stream(message []byte, more func() bool) (int, error) {
	sent := 0
	for ; more(); sent++ {
		if err := c.nc.Publish(sinkName, message); err != nil {
			return sent, err
		}
	}
	return sent, c.nc.Flush()
}

func (c natsClient) close() { c.nc.Close() }

// newCA makes the authority of both servers.
func newCA() (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k); err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalECPrivateKey(k)
	return cert, key, err
}

func mutualTLS(ca, caKey []byte) (*tls.Config, error) {
	authority, err := x509.ParseCertificate(ca)
	if err != nil {
		return nil, err
	}
	signer, err := x509.ParseECPrivateKey(caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(os.Getpid()) + 2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	leaf, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: key}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

// freePorts finds TCP ports of 127.0.0.1 that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are found
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
