package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"wsstream.interop/go/host"
)

// runtime is a container runtime without containers. Commands that begin with @ are functions of its own, the same as
// those of the bench's Rust peers, for sections in which no process should be in the way.
type runtime struct{}

func (r runtime) Exec(ctx context.Context, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	if len(argv) > 0 && strings.HasPrefix(argv[0], "@") {
		go host.Discard(resize)
		return function(argv, in, out)
	}
	return host.Run(ctx, argv, in, out, errs, tty, resize)
}

// function runs a command that begins with @.
func function(argv []string, in io.Reader, out io.Writer) error {
	switch argv[0] {
	case "@echo":
		_, err := io.Copy(out, in)
		return err
	case "@hold":
		_, err := io.Copy(io.Discard, in)
		return err
	case "@zeros":
		bytes, err := strconv.ParseInt(argv[1], 10, 64)
		if err != nil {
			return err
		}
		size, err := strconv.Atoi(argv[2])
		if err != nil {
			return err
		}
		return zeros(out, bytes, size)
	}
	return fmt.Errorf("there is no function %q", argv[0])
}

func (r runtime) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("this server attaches to nothing")
}

// PortForward is what a runtime does for a port: a connection, and two copies.
func (r runtime) PortForward(_ context.Context, _ string, port int32, stream io.ReadWriteCloser) error {
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer connection.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, err = io.Copy(stream, connection)
	// The end of what comes back, said before the other direction has ended.
	_ = stream.Close()
	<-done
	return err
}

func zeros(out io.Writer, bytes int64, size int) error {
	block := make([]byte, size)
	for bytes > 0 {
		n := min(bytes, int64(len(block)))
		if _, err := out.Write(block[:n]); err != nil {
			return err
		}
		bytes -= n
	}
	return nil
}
