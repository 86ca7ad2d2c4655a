// Package spec is the text of the relay protocol, for programs that quote it.
package spec

import _ "embed"

// Relay is relay.md: Markdown, in clauses that begin with their number in bold.
//
//go:embed relay.md
var Relay string
