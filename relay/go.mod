module github.com/project-iris/iris/relay

go 1.26
