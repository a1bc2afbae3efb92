// Package host runs a command of a container runtime without containers: here, with pipes or on a terminal. The servers of
// the interop tests and of the bench share it, so that both put the same processes behind upstream's streaming code.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Run does what the streaming server asks of a runtime and no more, so that what a client sees is the streaming server's
// doing: it returns after all output was handed over, and the request's context is what upstream gives it. Over WebSocket
// that ends where net/http's reader meets the end of the client's direction, and the command with it.
func Run(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer, tty bool, resize <-chan remotecommand.TerminalSize) error {
	if len(argv) == 0 {
		return errors.New("no command given")
	}
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// Nothing outlives the server, however it ends.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if tty {
		return exitError(onTerminal(command, in, out, resize))
	}
	go Discard(resize)
	return exitError(onPipes(command, in, out, errs))
}

// Discard keeps sizes that nobody wants from blocking the connection (the resize channel is unbuffered).
func Discard(resize <-chan remotecommand.TerminalSize) {
	for range resize {
	}
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

func onTerminal(command *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	command.SysProcAttr.Setsid, command.SysProcAttr.Setctty = true, true
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range resize {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	if out == nil {
		out = io.Discard
	}
	// Reading a terminal that nobody has open any more is an error, not an end.
	_, _ = io.Copy(out, terminal)
	return command.Wait()
}

// exitError is what the streaming server understands as an exit code; a signal becomes 128 plus its number, as
// container runtimes report it.
func exitError(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
}
