module github.com/project-iris/iris/stack/link

go 1.26
