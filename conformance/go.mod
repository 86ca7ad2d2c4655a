module github.com/project-iris/iris/conformance

go 1.26
