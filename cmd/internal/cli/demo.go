package cli

import (
	"context"

	"github.com/project-iris/iris/cmd/internal/demo"
)

// demonstrate runs the demo with this very binary as the nodes.
func demonstrate(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "demo")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	return demo.Run(ctx, std.Out)
}
