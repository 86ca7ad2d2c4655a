package cli

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/project-iris/iris/cmd/internal/node"
	"github.com/project-iris/iris/stack/discovery"
)

// defaultPort is where applications have always looked for their node.
const defaultPort = 55555

// nodeOptions are the options of iris without a command, as given.
type nodeOptions struct {
	dev       bool
	net, rsa  string
	rsaPass   string
	port      int
	bind      string
	join      string
	state     string
	logLevel  string
	logFormat string
}

// runNode runs a node until ctx is done.
func runNode(ctx context.Context, std Streams, args []string) error {
	var o nodeOptions
	flags := newFlags(std, "iris")
	flags.BoolVar(&o.dev, "dev", false, "start in local developer mode (random cluster and key)")
	flags.StringVar(&o.net, "net", "", "name of the cluster to join or create")
	flags.IntVar(&o.port, "port", defaultPort, "relay endpoint for locally connecting clients")
	flags.StringVar(&o.rsa, "rsa", "", "path to the RSA private key to use for data security")
	flags.StringVar(&o.rsaPass, "rsa-pass", "", "path to a file whose first line is the passphrase of -rsa; it may also be in the environment as "+passVariable)
	flags.StringVar(&o.bind, "bind", "", "ADDR/MASK: address to talk to other nodes from, and the subnet to look for them in")
	flags.StringVar(&o.join, "join", "", "HOST[:PORT],…: hosts with other nodes, where the subnets do not reach ($"+joinVariable+" if not given)")
	flags.StringVar(&o.state, "state", "", "FILE: keep where other nodes were, to find them again at once (under $"+stateVariable+" if set)")
	flags.StringVar(&o.logLevel, "log-level", "info", "least level to log: debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", "text", "how to log to stderr: text or json")
	flags.Usage = func() { nodeHelp(std.Out, flags) }
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	cfg, err := o.config(std.Err)
	if err != nil {
		return err
	}
	if !o.dev {
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		cfg.Reload = hangup
	}
	node.ShareProcessors()
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// config checks the options and reads the key.
func (o nodeOptions) config(logs io.Writer) (node.Config, error) {
	cfg := node.Config{Dev: o.dev, Network: o.net, Port: o.port}
	var err error
	if cfg.Log, err = newLogger(logs, o.logLevel, o.logFormat); err != nil {
		return cfg, err
	}
	if o.port < 1 || o.port > 65535 {
		return cfg, usagef("-port %d: a port is 1 to 65535", o.port)
	}
	if o.dev {
		if o.net != "" || o.rsa != "" || o.rsaPass != "" || o.bind != "" || o.join != "" || o.state != "" {
			return cfg, usagef("-dev runs alone with a random network: -net, -rsa, -rsa-pass, -bind, -join and -state do not go with it")
		}
		return cfg, nil
	}
	if o.net == "" || o.rsa == "" {
		return cfg, usagef("name the network with -net and its key with -rsa (make one with `iris keygen -out FILE`), or try Iris alone with -dev")
	}
	if o.bind != "" {
		if cfg.Bind, err = netip.ParsePrefix(o.bind); err != nil || !cfg.Bind.Addr().Is4() {
			return cfg, usagef("-bind %s: want an IPv4 address of this host and its mask, like 10.0.0.7/24", o.bind)
		}
	}
	if cfg.Join, err = seeds(o.join); err != nil {
		return cfg, err
	}
	cfg.State = stateFile(o.state)
	cfg.KeysIn = keyFile{path: o.rsa, pass: o.rsaPass}
	return cfg, nil
}

const (
	// joinVariable is the environment's -join.
	joinVariable = "IRIS_JOIN"
	// stateVariable is set by systemd to the directories where a service keeps what it knows.
	stateVariable = "STATE_DIRECTORY"
)

// seeds reads -join, or what the environment says in its place.
func seeds(join string) ([]discovery.Seed, error) {
	option := "-join"
	if join == "" {
		option, join = "$"+joinVariable, os.Getenv(joinVariable)
	}
	var list []discovery.Seed
	for _, text := range strings.Split(join, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := discovery.ParseSeed(text)
		if err != nil {
			return nil, usagef("%s: %v", option, err)
		}
		list = append(list, seed)
	}
	return list, nil
}

// stateFile is the file given, or one in the directory that systemd has made.
func stateFile(file string) string {
	if dir, _, _ := strings.Cut(os.Getenv(stateVariable), ":"); file == "" && dir != "" {
		return filepath.Join(dir, "peers")
	}
	return file
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("-log-level %s: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("-log-format %s: want text or json", format)
}
