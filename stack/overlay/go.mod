module github.com/project-iris/iris/stack/overlay

go 1.26
