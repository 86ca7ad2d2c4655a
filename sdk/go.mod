module github.com/project-iris/iris/sdk

go 1.26
