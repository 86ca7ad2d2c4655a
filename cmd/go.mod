module github.com/project-iris/iris/cmd

go 1.26.0

require (
	github.com/project-iris/iris/relay v0.1.0
	github.com/project-iris/iris/sdk v0.1.0
	github.com/project-iris/iris/spec v0.1.0
	github.com/project-iris/iris/stack/discovery v0.1.0
	github.com/project-iris/iris/stack/link v0.1.0
	github.com/project-iris/iris/stack/overlay v0.1.0
	github.com/project-iris/iris/stack/patterns v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	golang.org/x/term v0.47.0 // indirect
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/project-iris/iris/conformance v0.1.0
	github.com/quic-go/quic-go v0.65.0 // indirect
	github.com/schollz/progressbar/v3 v3.19.1
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
