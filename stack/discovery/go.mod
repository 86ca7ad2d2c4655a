module github.com/project-iris/iris/stack/discovery

go 1.26
