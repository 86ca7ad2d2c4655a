module github.com/project-iris/iris/stack/discovery

go 1.26.0

require (
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.60.0
)

require golang.org/x/sys v0.49.0 // indirect

require go.yaml.in/yaml/v3 v3.0.5 // indirect
