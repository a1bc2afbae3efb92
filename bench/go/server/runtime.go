package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// runtime is a container runtime without containers. Commands that begin with @ are functions of its own, the same as
// those of the bench's Rust peers, for sections in which no process should be in the way.
type runtime struct{}

func (r runtime) Exec(ctx context.Context, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	go func() {
		for range resize {
		}
	}()
	if len(argv) == 0 {
		return errors.New("no command given")
	}
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
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if tty {
		return exitError(onTerminal(command, in, out))
	}
	return exitError(onPipes(command, in, out, errs))
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

func onPipes(command *exec.Cmd, in io.Reader, out, errs io.Writer) error {
	command.Stdout, command.Stderr = out, errs
	if in != nil {
		// Not command.Stdin: Wait would then wait for the end of the input, which a v4 client cannot send.
		stdin, err := command.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(stdin, in)
			_ = stdin.Close()
		}()
	}
	return command.Run()
}

func onTerminal(command *exec.Cmd, in io.Reader, out io.Writer) error {
	command.SysProcAttr.Setsid, command.SysProcAttr.Setctty = true, true
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	defer terminal.Close()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	// Reading a terminal that nobody has open any more is an error, not an end.
	_, _ = io.Copy(out, terminal)
	return command.Wait()
}

func exitError(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	code := exit.ExitCode()
	return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
}
