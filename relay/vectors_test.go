package relay

import (
	"slices"
	"testing"

	"github.com/project-iris/iris/spec/vectors"
)

func TestVectorsThatBreakTheProtocolEndTheirConnection(t *testing.T) {
	w := newWorld(t, Config{})
	bystander := w.attach("")
	for _, v := range slices.Concat(vectors.Malformed(), vectors.Misplaced()) {
		if v.To == vectors.Client {
			continue
		}
		t.Run(v.State+"/"+v.Name, func(t *testing.T) {
			c := w.raw()
			c.t = t
			if v.State == "opening" {
				c.send(v.Hex)
				c.expectEndNamed(v.Code)
				return
			}
			cluster := ""
			if v.Role == "service" {
				cluster = "demo"
			}
			c.attachAs(cluster)
			c.send(v.Hex)
			c.expectEndNamed(v.Code)
		})
		bystander.echo(1)
	}
}

func TestVectorsThatAreIncompleteWaitForTheRest(t *testing.T) {
	w := newWorld(t, Config{})
	for _, v := range vectors.Truncated() {
		c := w.attach("")
		c.send(v.Hex)
		c.kill()
	}
	w.none()
}
