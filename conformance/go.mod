module github.com/project-iris/iris/conformance

go 1.26.0

require github.com/project-iris/iris/spec v0.1.0
