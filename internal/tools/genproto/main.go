// Command genproto compiles the repository's .proto files to Go.
//
// It needs no protoc: the files are parsed by protocompile and handed to the
// two plugins, protoc-gen-go and protoc-gen-go-grpc, in the versions that
// go.mod of this module pins as tools.
//
//	GOWORK=off go -C internal/tools run ./genproto          writes the .pb.go files
//	GOWORK=off go -C internal/tools run ./genproto -check   fails if one is not up to date
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	module  = "github.com/withobsrvr/sluice"
	command = "GOWORK=off go -C internal/tools run ./genproto"
)

func main() {
	root := flag.String("root", "../..", "the repository's root `folder`")
	check := flag.Bool("check", false, "write nothing; fail if a generated file is not up to date")
	flag.Parse()
	if err := run(context.Background(), *root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "genproto:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, check bool) error {
	generated, err := generate(ctx, root)
	if err != nil {
		return err
	}
	var stale []error
	for name, content := range generated {
		path := filepath.Join(root, filepath.FromSlash(name))
		if !check {
			if err := os.WriteFile(path, content, 0o644); err != nil {
				return err
			}
			continue
		}
		if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, content) {
			stale = append(stale, fmt.Errorf("%s is not up to date: run %s", name, command))
		}
	}
	return errors.Join(stale...)
}

// generate returns the generated files by path from root.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	names, err := protoFiles(root)
	if err != nil {
		return nil, err
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate:  names,
		Parameter:       new("module=" + module),
		ProtoFile:       withImports(files),
		CompilerVersion: nil,
	}
	generated := map[string][]byte{}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		response, err := runPlugin(ctx, plugin, request)
		if err != nil {
			return nil, err
		}
		for _, file := range response.File {
			generated[file.GetName()] = []byte(file.GetContent())
		}
	}
	return generated, nil
}

// protoFiles lists the repository's .proto files, sorted, by path from root.
func protoFiles(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." ||
			entry.Name() == "node_modules" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".proto":
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// withImports returns the files and what they import, each after its imports,
// as plugins want them.
func withImports(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var ordered []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		ordered = append(ordered, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range files {
		add(file)
	}
	return ordered
}

// runPlugin speaks the protoc plugin protocol with a tool of this module.
func runPlugin(
	ctx context.Context,
	name string,
	request *pluginpb.CodeGeneratorRequest,
) (*pluginpb.CodeGeneratorResponse, error) {
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	var output, messages bytes.Buffer
	plugin := exec.CommandContext(ctx, "go", "tool", name)
	plugin.Stdin, plugin.Stdout, plugin.Stderr = bytes.NewReader(input), &output, &messages
	if err := plugin.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, messages.String())
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(output.Bytes(), response); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("%s: %s", name, response.GetError())
	}
	return response, nil
}
