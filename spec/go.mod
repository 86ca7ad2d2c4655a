module github.com/project-iris/iris/spec

go 1.26
