module github.com/project-iris/iris/cmd

go 1.26
