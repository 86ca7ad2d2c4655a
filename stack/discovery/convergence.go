package discovery

import "time"

const (
	// quietTime without news after the sweep means converged.
	quietTime = 150 * time.Millisecond
	// newsLimit is how long after the sweep news can put convergence off.
	newsLimit = time.Second
	// largeTime is how long large subnets are searched before that counts as swept.
	largeTime = 2 * time.Second
)

// A convergence is the rule for when a node knows enough to open for clients:
// the first sweep is done and nothing new has appeared for a short while.
type convergence struct {
	swept time.Time // when the first sweep ended; zero before
	news  time.Time // when a node was heard of for the first time, last
}

// at is when convergence happens if nothing new appears; false before the
// first sweep is done.
func (c *convergence) at() (time.Time, bool) {
	if c.swept.IsZero() {
		return time.Time{}, false
	}
	quiet := c.swept.Add(quietTime)
	if t := c.news.Add(quietTime); t.After(quiet) {
		quiet = t
	}
	if limit := c.swept.Add(newsLimit); quiet.After(limit) {
		return limit, true
	}
	return quiet, true
}
