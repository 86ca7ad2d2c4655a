module github.com/project-iris/iris/stack/patterns

go 1.26
